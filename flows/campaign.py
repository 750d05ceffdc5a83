"""A campaign: roll out, execute, score, train, checkpoint, over and over. One flow run; every step is a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prefect import flow
from prefect.runtime import flow_run

from flows.artifacts import Board
from flows.commits import Commits
from flows.deployed import ends_in_time
from flows.recovery import kept, put_aside, remade, restore
from flows.signals import Signals
from infra.lineage import pin
from infra.preflight import check_grader
from infra.progress import bar, say
from infra.resources import current, session
from infra.storage import CampaignStore, EvaluationManifest, Ref, StepManifest, Store
from infra.storage.evaluations import stored_answer
from infra.storage.retention import Retention
from infra.tracking import open_tracker
from tasks.checkpoint import checkpoint
from tasks.evaluate import evaluate
from tasks.prepare import prepare
from tasks.reward import reward
from tasks.rollout import rollout
from tasks.step import Prepared, Rollouts, Scored, Stopwatch, Trained, kept_in
from tasks.train import train
from torl_core.config import CampaignConfig
from torl_core.errors import DamagedError
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
    with ends_in_time():
        return _campaign(pin(config))


def _campaign(config: CampaignConfig) -> Outcome:
    check_grader(config)
    store = CampaignStore(Store.open(config.store), config.name)
    with (
        store.hold(flow_run.id or config.name),
        session(),
        bar(config.name, config.steps) as progress,
        open_tracker(config) as tracker,
    ):
        prepared = prepare(config)
        retention = Retention(store, config, prepared.benchmarks)
        board, signals = Board(config), Signals(config)

        def show(manifest: StepManifest) -> None:
            board.add(manifest)
            progress.update(manifest.step, _line(manifest.metrics))
            _warn(signals.add(manifest.step, manifest.metrics))

        def committed(manifest: StepManifest) -> None:
            tracker.log(manifest.step, {**manifest.metrics, **manifest.phases_s})
            show(manifest)
            retention.apply(manifest.step)

        policy, optimizer, resumed = prepared.policy, prepared.optimizer, True
        evaluations = evaluate_due(config, prepared, 0, policy)
        with Commits(committed) as commits:
            for step in range(1, config.steps + 1):
                if manifest := store.manifest(step):
                    show(manifest)
                    policy, optimizer = manifest.policy_out, manifest.optimizer
                else:
                    trained = run_step(config, step, policy, optimizer, prepared.problems, commits, resumed)
                    policy, optimizer, resumed = trained.policy, trained.optimizer, False
                if config.evaluation.is_due(step, config.steps):
                    commits.settle()
                    evaluations = evaluate_due(config, prepared, step, policy)
        retention.apply(config.steps)
        board.finish()
        _warn(signals.summary())
    last = store.manifest(config.steps)
    return Outcome(
        config.name,
        config.store,
        config.steps,
        policy,
        last.metrics if last else {},
        {e.benchmark: e.metrics for e in evaluations},
    )


def run_step(
    config: CampaignConfig,
    step: int,
    policy: Policy,
    optimizer: Ref | None,
    problems: Ref,
    commits: Commits,
    resumed: bool,
) -> Trained:
    """One step from a policy to the next; the commit of the step before it ends meanwhile, its own is begun.

    With `resumed`, what an interrupted attempt finished is taken from the store's results, once it is found undamaged.
    """
    store = CampaignStore(Store.open(config.store), config.name)
    if resumed:
        restore(config, store, step - 1)
    watch = Stopwatch()
    current().start_learner(config)
    rollouts: Rollouts = kept(store, rollout, config, step, policy, problems)
    waiting = Stopwatch()
    commits.settle()
    waited_s = waiting.lap()
    try:
        scored: Scored = kept(store, reward, config, step, rollouts, check=_data_of(store, resumed))
    except DamagedError as damage:  # rows that an interrupted attempt had sampled
        put_aside(store, damage)
        rollouts = remade(store, rollout, config, step, policy, problems)
        scored = kept(store, reward, config, step, rollouts)
    trained: Trained = kept(
        store,
        train,
        config,
        step,
        policy,
        optimizer,
        scored,
        config.learning_rate(step),
        check=(lambda made: store.verify_checkpoint(made.policy, made.optimizer)) if resumed else None,
    )
    commits.start(checkpoint.submit(config, step, policy, problems, rollouts, scored, trained, watch.lap(), waited_s))
    return trained


def _data_of(store: CampaignStore, resumed: bool) -> Callable[[Scored], object] | None:
    return (lambda made: store.store.get_object(made.data.key, made.data.digest)) if resumed else None


def evaluate_due(config: CampaignConfig, prepared: Prepared, step: int, policy: Policy) -> list[EvaluationManifest]:
    """As `evaluate_policy`; a policy whose checkpoint retention removed keeps the evaluations it has."""
    store, benchmarks = CampaignStore(Store.open(config.store), config.name), config.evaluation.benchmarks
    made = [stored_answer(store, config, step, policy, name, prepared.benchmarks[name]) for name in benchmarks]
    if None in made and store.is_removed(policy):
        missing = ", ".join(name for name, evaluation in zip(benchmarks, made, strict=True) if evaluation is None)
        say(f"step {step} is not evaluated on {missing}: retention removed its checkpoint", "yellow")
        return [evaluation for evaluation in made if evaluation]
    return evaluate_policy(config, step, policy, prepared.benchmarks)


def evaluate_policy(
    config: CampaignConfig, step: int, policy: Policy, problems: Mapping[str, Ref]
) -> list[EvaluationManifest]:
    """The manifests of one policy's evaluations, one per benchmark; those the store holds are not made again."""
    store = CampaignStore(Store.open(config.store), config.name)
    return [
        stored_answer(store, config, step, policy, name, problems[name])
        or kept_in(store.store, evaluate)(config, step, policy, name, benchmark, problems[name])
        for name, benchmark in config.evaluation.benchmarks.items()
    ]


def _warn(said: str | None) -> None:
    if said:
        say(said, "yellow")


def _line(metrics: Mapping[str, float]) -> str:
    """The few figures worth a glance while a campaign runs."""
    shown = (("accuracy", "accuracy"), ("reward", "reward"), ("called_share", "with calls"))
    return "  ".join(f"{label} {metrics[name]:.2f}" for name, label in shown if name in metrics)
