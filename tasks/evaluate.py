"""Measure one policy on one benchmark."""

from __future__ import annotations

from infra.problems import get_problems
from infra.storage import CampaignStore, EvaluationManifest, Ref, Store, records_to_table
from tasks.reward import grade_all, summarise
from tasks.rollout import sample
from tasks.step import Stopwatch, step_task
from torl_core.config import BenchmarkConfig, CampaignConfig
from torl_core.types import Policy


@step_task
def evaluate(
    config: CampaignConfig, step: int, policy: Policy, name: str, benchmark: BenchmarkConfig, problems: Ref
) -> EvaluationManifest:
    """Raises what a rollout and grading raise."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    tool = (
        config.tool
        if benchmark.max_calls is None
        else config.tool.model_copy(update={"max_calls": benchmark.max_calls})
    )
    records, codec = sample(
        config,
        policy,
        get_problems(store.store, problems),
        f"{config.name}-{step:06d}-{name}",
        benchmark.samples,
        tool,
        benchmark.temperature,
    )
    graded = grade_all(records, codec, config.reward)
    manifest = EvaluationManifest(
        campaign=config.name,
        step=step,
        benchmark=name,
        temperature=benchmark.temperature,
        samples=benchmark.samples,
        trajectories=(store.put_evaluation(step, name, benchmark.temperature, records_to_table(graded, codec)),),
        policy=policy,
        config_digest=config.identity(),
        max_calls=tool.max_calls,
        problems=problems,
        metrics=summarise(graded),
        duration_s=watch.lap(),
    )
    store.commit_evaluation(manifest)
    return manifest
