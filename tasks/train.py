"""Update the policy on a step's trajectories; what comes out is a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from infra.progress import bar
from infra.resources import current
from infra.storage import CampaignStore, Record, Ref, Store, get_table, table_to_records
from tasks.step import Scored, Stopwatch, Trained, step_task
from torl_core.config import CampaignConfig
from torl_core.errors import DataError
from torl_core.packing import deal, pack
from torl_core.protocols import Learner, UpdateStats
from torl_core.types import Batch, Policy, Sample


@step_task
def train(
    config: CampaignConfig, step: int, policy: Policy, optimizer: Ref | None, scored: Scored, learning_rate: float
) -> Trained:
    """The step's optimizer updates; the checkpoint is staged. Raises LearnerError, DataError, StoreError."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    rows = get_table(store.store, scored.data)
    with updated(config, store.store, rows, policy, optimizer, learning_rate) as (learner, metrics):
        train_s = watch.lap()
        with store.store.scratch() as folder:
            learner.save(folder / "policy", folder / "optimizer")
            made, state = store.stage_checkpoint(step, folder, policy.digest)
    current().learner_holds(f"{made.digest} {state.digest}")
    return Trained(made, state, train_s, watch.lap(), metrics)


@contextmanager
def updated(
    config: CampaignConfig, store: Store, rows: pa.Table, policy: Policy, optimizer: Ref | None, learning_rate: float
) -> Iterator[tuple[Learner, dict[str, float]]]:
    """The learner after a step's updates from `policy` and `optimizer` on its scored rows, and the updates' metrics."""
    batches = mini_batches(config, table_to_records(rows))

    def load(learner: Learner) -> None:
        state = store.fetch_folder(optimizer.key, optimizer.digest) if optimizer else None
        learner.load(store.fetch_folder(policy.weights_uri, policy.digest), state)

    state_in = f"{policy.digest} {optimizer.digest if optimizer else None}"
    with (
        current().learner(config, state_in, load) as learner,
        bar("  training", len(batches), transient=True) as progress,
    ):
        stats = []
        for done, batch in enumerate(batches, start=1):
            stats.append(learner.update(batch, learning_rate))
            progress.update(done)
        yield learner, {**average(stats), "learning_rate": learning_rate}


def mini_batches(config: CampaignConfig, records: Sequence[Record]) -> list[Batch]:
    """Whole groups dealt into the step's updates, without what could not be graded. Raises DataError if that is all."""
    usable = [record for record in records if record.advantage is not None]
    if not usable:
        raise DataError(
            f"none of the {len(records)} trajectories of the step could be graded",
            "a step trains on graded responses",
            "look at grade_reason with `torl sql`, and at the gold answers",
        )
    groups = [record.trajectory.group_id for record in usable]
    hands = deal([_sample(record) for record in usable], groups, config.algorithm.updates_per_step)
    return [pack(hand, config.trainer.row_tokens) for hand in hands]


def _sample(record: Record) -> Sample:
    t = record.trajectory
    assert record.advantage is not None
    return Sample(
        t.trajectory_id,
        np.asarray(t.token_ids, np.int64),
        np.asarray(t.loss_mask, np.bool_),
        np.asarray(t.logprobs, np.float32),
        record.advantage,
    )


def average(stats: Sequence[UpdateStats]) -> dict[str, float]:
    """Means over a step's updates; tokens and skipped updates are summed."""
    names = ("loss", "grad_norm", "clip_fraction", "approx_kl", "entropy")
    means = {name: float(np.mean([getattr(s, name) for s in stats])) for name in names}
    totals = {"trained_tokens": sum(s.trained_tokens for s in stats), "skipped_updates": sum(s.skipped for s in stats)}
    return means | {name: float(total) for name, total in totals.items()}
