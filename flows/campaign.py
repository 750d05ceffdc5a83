"""A campaign: roll out, execute, score, train, checkpoint, over and over. One flow run; every step is a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefect import flow
from prefect.runtime import flow_run

from flows.artifacts import Board
from infra.lineage import pin
from infra.progress import bar
from infra.resources import session
from infra.storage import CampaignStore, EvaluationManifest, Ref, StepManifest, Store
from infra.tracking import open_tracker
from tasks.checkpoint import checkpoint
from tasks.evaluate import evaluate
from tasks.prepare import prepare
from tasks.reward import reward
from tasks.rollout import rollout
from tasks.step import Prepared, Stopwatch, kept_in
from tasks.train import train
from torl_core.config import CampaignConfig
from torl_core.types import Policy


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished campaign leaves: its last policy, the last step's metrics, that policy's evaluations."""

    campaign: str
    store: str
    steps: int
    policy: Policy
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@flow(name="campaign", flow_run_name="{config.name}", persist_result=False)
def campaign(config: CampaignConfig) -> Outcome:
    """Train a tool-using policy. Steps that the store holds already are not run again."""
    config = pin(config)
    store = CampaignStore(Store.open(config.store), config.name)
    with (
        store.hold(flow_run.id or config.name),
        session(),
        bar(config.name, config.steps) as progress,
        open_tracker(config) as tracker,
    ):
        prepared = prepare(config)
        board = Board(config)
        policy, optimizer = prepared.policy, prepared.optimizer
        metrics: Mapping[str, float] = {}
        evaluations = evaluate_if_due(config, prepared, 0, policy)
        for step in range(1, config.steps + 1):
            manifest = store.manifest(step)
            if manifest is None:
                progress.update(step - 1, _line(metrics))
                manifest = run_step(config, step, policy, optimizer, prepared.problems)
                tracker.log(step, {**manifest.metrics, **manifest.phases_s})
            policy, optimizer, metrics = manifest.policy_out, manifest.optimizer, manifest.metrics
            board.add(manifest)
            progress.update(step, _line(metrics))
            evaluations = evaluate_if_due(config, prepared, step, policy) or evaluations
        board.finish()
    return Outcome(
        config.name, config.store, config.steps, policy, metrics, {e.benchmark: e.metrics for e in evaluations}
    )


def run_step(config: CampaignConfig, step: int, policy: Policy, optimizer: Ref | None, problems: Ref) -> StepManifest:
    """One step from a policy to the next. What an interrupted attempt finished is taken from the store's results."""
    store = Store.open(config.store)
    watch = Stopwatch()
    rollouts = kept_in(store, rollout)(config, step, policy, problems)
    scored = kept_in(store, reward)(config, step, rollouts)
    trained = kept_in(store, train)(config, step, policy, optimizer, scored, config.learning_rate(step))
    return checkpoint(config, step, policy, problems, rollouts, scored, trained, watch.lap())


def evaluate_if_due(config: CampaignConfig, prepared: Prepared, step: int, policy: Policy) -> list[EvaluationManifest]:
    """Every benchmark before the first step, after the last, and after each `evaluation.every`-th."""
    every = config.evaluation.every
    if step not in (0, config.steps) and not (every and step % every == 0):
        return []
    return evaluate_policy(config, step, policy, prepared.benchmarks)


def evaluate_policy(
    config: CampaignConfig, step: int, policy: Policy, problems: Mapping[str, Ref]
) -> list[EvaluationManifest]:
    """The manifests of one policy's evaluations, one per benchmark; those the store holds are not made again."""
    store = CampaignStore(Store.open(config.store), config.name)
    return [
        store.evaluation(step, name, benchmark.temperature)
        or kept_in(store.store, evaluate)(config, step, policy, name, benchmark, problems[name])
        for name, benchmark in config.evaluation.benchmarks.items()
    ]


def _line(metrics: Mapping[str, float]) -> str:
    """The few figures worth a glance while a campaign runs."""
    shown = (("accuracy", "accuracy"), ("reward", "reward"), ("called_share", "with calls"))
    return "  ".join(f"{label} {metrics[name]:.2f}" for name, label in shown if name in metrics)
