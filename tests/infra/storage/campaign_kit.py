"""Small campaigns with real rows and checkpoint folders, written as a run writes them."""

import pyarrow as pa

from infra.storage import CampaignStore, EvaluationManifest, Ref, StepManifest, put_table, records_to_table
from tests.infra.analytics.stored_kit import Letters, config, response
from torl_core.evaluation import evaluation_identity, evaluation_tool, perturbed_by
from torl_core.types import Policy

BASE = Policy(0, "/models/base", "b" * 64)


def start(store, name="demo", **changes):
    campaign = CampaignStore(store, name)
    campaign.save_config(config(name, **changes))
    return campaign


def rows(name, count=2):
    records = [response(f"{name}-{i}", "So \\boxed{1}", correct=i % 2 == 0) for i in range(count)]
    return records_to_table(records, Letters())


def checkpoint(campaign, step, folder, parent="p" * 64):
    """A checkpoint of the usual shape, not committed."""
    files = {
        "policy/config.json": b"{}",
        "policy/model.safetensors": f"{campaign.name} weights {step}".encode() * 100,
        "optimizer/rank0/moments.safetensors": f"moments {step}".encode() * 100,
    }
    for path, data in files.items():
        place = folder / f"made-{campaign.name}-{step}" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    made = campaign.stage_checkpoint(step, folder / f"made-{campaign.name}-{step}", parent)
    campaign.upload_checkpoint(*made)
    return made


def problems(store) -> Ref:
    return put_table(store, "problems", pa.table({"problem_id": ["a", "b", "c"]}), prefix="")


def run_step(campaign, step, folder, *, count=2, grader="1", **metrics):
    """Step `step` from staging to manifest; returns the manifest."""
    before = campaign.manifest(step - 1)
    policy_in = before.policy_out if before else BASE
    campaign.put_staging(step, rows(f"{campaign.name}-{step}", count))
    ref = campaign.put_trajectories(step, rows(f"{campaign.name}-{step}", count))
    policy, optimizer = checkpoint(campaign, step, folder, policy_in.digest)
    manifest = StepManifest(
        campaign.name, step, (ref,), policy_in, policy, optimizer, "abcabcabcabc",
        problems=problems(campaign.store), metrics=metrics, grader=grader,
    )  # fmt: skip
    campaign.commit_step(manifest)
    return manifest


def run_evaluation(campaign, step, policy, *, benchmark="toy", count=2, **metrics):
    """Of the three problems of `problems`, one greedy response each."""
    return answer(
        campaign, asking(campaign, benchmark), step, policy, problems(campaign.store), benchmark, count, metrics
    )


def asking(campaign, benchmark="toy", settings=None, **changes):
    """The campaign's config with one benchmark; `changes` are the benchmark's, `settings` the campaign's."""
    benchmarks = {benchmark: {"problems": {"location": "toy:test"}} | changes}
    return config(campaign.name, evaluation={"benchmarks": benchmarks}, **(settings or {}))


def answer(campaign, values, step, policy, problems, benchmark="toy", count=2, metrics=None):
    """Commit the evaluation that `values` asks for, with the facts that a run records."""
    identity = evaluation_identity(values, benchmark, policy, problems.digest)
    asked = values.evaluation.benchmarks[benchmark]
    ref = campaign.put_evaluation(step, benchmark, identity, rows(f"{campaign.name}-{step}-{benchmark}", count))
    done = EvaluationManifest(
        campaign.name, step, benchmark, asked.temperature, asked.samples, (ref,), policy, values.identity(),
        max_calls=evaluation_tool(values, benchmark).max_calls, identity=identity, problems=problems,
        settings=perturbed_by(values), metrics=metrics or {},
    )  # fmt: skip
    campaign.commit_evaluation(done)
    return done
