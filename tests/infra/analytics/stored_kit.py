"""Hand-built trajectories, and what commits them to a store."""

from dataclasses import replace

from infra.storage import CampaignStore, EvaluationManifest, Record, Ref, StepManifest, records_to_table
from infra.storage.digests import digest_bytes
from torl_core.config import CampaignConfig
from torl_core.types import Grade, Policy, Problem, Prompt, Reward, Segment, ToolCall, Trajectory

POLICIES = [Policy(k, f"checkpoints/c/step={k:06d}/policy", f"{k}" * 64) for k in range(10)]


class Letters:
    """A codec whose token i is the character with code point i."""

    end_token_ids = frozenset({3})

    def encode(self, text):
        return tuple(map(ord, text))

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))


def response(name, *turns, correct=None, kind="sum", stop="end", prompt="Q?", step=1, source="toy"):
    """A record from alternating turns: model text, then (status, stdout), then model text..."""
    segments, calls = [], []
    for turn in turns:
        if isinstance(turn, str):
            segments.append(Segment("model", tuple(map(ord, turn)), (-0.5,) * len(turn)))
        else:
            status, stdout = turn
            shown = stdout if status == "ok" else "ZeroDivisionError: division by zero"
            segments.append(Segment("tool", tuple(map(ord, f"\n{shown}\n```\n")), None))
            stderr = "" if status == "ok" else "Traceback...\nZeroDivisionError: division by zero"
            calls.append(ToolCall("print(1)", status, stdout, stderr, 0.02, 0.01, 0 if status == "ok" else 1))
    trajectory = Trajectory(
        name,
        name.rsplit("-", 1)[0],
        step - 1,
        Prompt("p", "torl", tuple(map(ord, prompt))),
        tuple(segments),
        tuple(calls),
        stop,
    )
    problem = Problem("p", "Q?", "1", source, {"kind": kind})
    if correct is None:
        return Record(trajectory, problem, Grade(None, "1", "timed out"))
    reward = Reward({"correct": 1.0 if correct else -1.0})
    return Record(trajectory, problem, Grade(correct, "1", "exact"), reward, reward.value / 2)


CODE = "```python\nprint(1)\n```output"
ANSWER = "So \\boxed{1}"


def config(name, max_calls=1, **changes):
    values = {
        "name": name,
        "store": "s",
        "steps": 3,
        "model": {"path": "base"},
        "problems": {"location": "toy:train"},
        "tool": {"max_calls": max_calls},
    }
    return CampaignConfig.model_validate(values | changes)


def judged_by(grader, records):
    return [replace(record, grade=replace(record.grade, grader=grader)) for record in records]


def commit(store, name, step, records, phases=None, metrics=None, settings=None, grader=None):
    """`grader` None: as earlier versions wrote it, when there was only one."""
    campaign, recorded = CampaignStore(store, name), {"grader": grader} if grader else {}
    records = judged_by(grader, records) if grader else records
    ref = campaign.put_trajectories(step, records_to_table(records, Letters()))
    phases = {"rollout": 2.0, "reward": 0.25, "train": 1.5, "total": 4.0} if phases is None else phases
    manifest = StepManifest(
        name, step, (ref,), POLICIES[step - 1], POLICIES[step], None, "abc",
        metrics=metrics or {"loss": 0.5}, phases_s=phases, settings=settings, **recorded,
    )  # fmt: skip
    campaign.commit_step(manifest)
    return ref


def commit_evaluation(
    store, name, step, benchmark, temperature, records, max_calls=None, samples=1, problems=None, at=None, grader="1"
):
    """`problems` is a digest; `at` is when it was made."""
    campaign = CampaignStore(store, name)
    identity = digest_bytes(
        repr((POLICIES[step], benchmark, temperature, max_calls, samples, problems, grader)).encode()
    )[:16]
    ref = campaign.put_evaluation(step, benchmark, identity, records_to_table(judged_by(grader, records), Letters()))
    manifest = EvaluationManifest(
        name, step, benchmark, temperature, samples, (ref,), POLICIES[step], "abc", max_calls=max_calls,
        identity=identity, grader=grader, problems=Ref(f"problems/{problems}.parquet", problems) if problems else None,
    )  # fmt: skip
    campaign.commit_evaluation(replace(manifest, created_at=at) if at else manifest)
    return identity
