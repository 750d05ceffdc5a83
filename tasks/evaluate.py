"""Measure one policy on one benchmark."""

from __future__ import annotations

from infra.problems import get_problems
from infra.storage import CampaignStore, EvaluationManifest, Ref, Store, records_to_table, with_verdicts
from tasks.reward import grade_all, rewards_of, summarise
from tasks.rollout import sample
from tasks.step import Stopwatch, step_task
from torl_core import grading
from torl_core.config import BenchmarkConfig, CampaignConfig
from torl_core.evaluation import evaluation_identity, evaluation_tool, perturbed_by
from torl_core.types import Policy


@step_task
def evaluate(
    config: CampaignConfig, step: int, policy: Policy, name: str, benchmark: BenchmarkConfig, problems: Ref
) -> EvaluationManifest:
    """Raises what a rollout and grading raise."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    tool, identity = evaluation_tool(config, name), evaluation_identity(config, name, policy, problems.digest)
    if done := store.evaluation(step, name, identity):
        return done  # an earlier try wrote it and failed behind it
    records, codec = sample(
        config,
        policy,
        get_problems(store.store, problems),
        f"{config.name}-{step:06d}-{name}",
        benchmark.samples,
        tool,
        benchmark.temperature,
    )
    table = records_to_table(records, codec)
    grades = grade_all(table)
    scored = with_verdicts(table, grades, rewards_of(table, grades, config.reward), advantages=[None] * len(table))
    manifest = EvaluationManifest(
        campaign=config.name,
        step=step,
        benchmark=name,
        temperature=benchmark.temperature,
        samples=benchmark.samples,
        trajectories=(store.put_evaluation(step, name, identity, scored),),
        policy=policy,
        config_digest=config.identity(),
        max_calls=tool.max_calls,
        identity=identity,
        settings=perturbed_by(config),
        grader=grading.VERSION,
        problems=problems,
        metrics=summarise(scored),
        duration_s=watch.lap(),
    )
    store.commit_evaluation(manifest)
    return manifest
