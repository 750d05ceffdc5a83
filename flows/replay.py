"""Train a stored step again, perhaps with another algorithm, reward or trainer, without sampling anything.

What the model wrote, what the tool answered and what the step started from come from the store; rewards and advantages
are computed anew. So are the verdicts, if this torl has the grader that judged the step. If it has another one, the
step's own verdicts are taken, unless `reward.grader` asks for the new one. Under unchanged settings the result is the
step's own, bit for bit, on the machine that made it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.lineage import checked_folder, find_step, made_under, state_before
from infra.progress import bar
from infra.resources import session
from infra.settings import apply_overrides, parse
from infra.storage import Ref, StepManifest, Store, differences, get_table, stored_grades, versions
from infra.storage.digests import digest_folder
from tasks.reward import rewarded, score, summarise_step
from tasks.train import updated
from torl_core import grading
from torl_core.config import CampaignConfig, RewardConfig
from torl_core.errors import ConfigError, StoreError
from torl_core.trainer.checkpoint import weights_distance
from torl_core.types import Policy

_UNFINISHED = "unfinished"
"""Lies beside what --save wrote so far, until all of it is there."""
_MAY_CHANGE = ("algorithm", "reward", "trainer")
_SCHEDULE = {
    f"trainer.{name}" for name in ("learning_rate", "final_learning_rate_share", "warmup_steps", "schedule_steps")
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step's training came to. Digests are of the folders; `update_norm` is the L2 norm of the weights' change,
    None where they are no longer stored."""

    weights: str
    optimizer: str | None
    metrics: Mapping[str, float]
    update_norm: float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """`changed` holds (was, is now) by setting. `distance` is the L2 distance between the two updated weights, as a
    share of the original's update; None where the original's weights are no longer stored or did not change.
    `grader` is the version that judged what the replay trained on. `regraded` counts responses whose verdict is now
    another; it is None where the verdicts are the step's own. `versions_differ` holds (then, now) by package."""

    store: str
    campaign: str
    step: int
    changed: Mapping[str, tuple[Any, Any]]
    original: Outcome
    replay: Outcome
    equal: bool
    distance: float | None
    grader: str
    regraded: int | None
    versions_differ: Mapping[str, tuple[str | None, str | None]]
    saved: str | None


def replay(
    store_uri: str, step: int, campaign: str | None = None, overrides: Sequence[str] = (), save: str | None = None
) -> Replay:
    """`overrides` read `trainer.learning_rate=1e-4`. `save`: a folder or URL, empty so far, for policy/ and optimizer/.

    Raises ConfigError for a setting that decided what was sampled and for a step that is not there, StoreError where
    the step's checkpoint is gone.
    """
    store = Store.open(store_uri)
    place, manifest = find_step(store, step, campaign)
    config, changed = changed_config(made_under(place.recorded_config(), manifest), overrides)
    grader = _grader(config.reward, manifest)
    destination = _destination(save)
    before, optimizer = state_before(place, manifest)
    _check_state(store, place.name, step, before, optimizer)
    rate = config.learning_rate(step) if changed.keys() & _SCHEDULE else manifest.metrics["learning_rate"]
    with (
        session() as resources,
        bar(f"replay {place.name} step {step}", 3) as progress,
        tempfile.TemporaryDirectory(prefix="torl-replay-") as scratch,
    ):
        progress.update(0, "reward")
        resources.start_learner(config)
        rows = pa.concat_tables([get_table(store, ref) for ref in manifest.trajectories])
        scored = judged(rows, config)
        progress.update(1, "training")
        made, state = Path(scratch, "policy"), Path(scratch, "optimizer")
        with updated(config, store, scored, before, optimizer, rate) as (learner, metrics):
            learner.save(made, state)
        progress.update(2, "comparing")
        outcome, original, distance = _compare(store, manifest, made, state, {**summarise_step(scored), **metrics})
        if destination:
            _save(destination, made, state)
        progress.update(3)
    return Replay(
        store=store.uri,
        campaign=place.name,
        step=step,
        changed=changed,
        original=original,
        replay=outcome,
        equal=(outcome.weights, outcome.optimizer) == (original.weights, original.optimizer),
        distance=distance,
        grader=grader,
        regraded=_regraded(rows, scored) if grader == grading.VERSION else None,
        versions_differ=differences(dict(manifest.versions), dict(versions())),
        saved=destination.uri if destination else None,
    )


def changed_config(
    recorded: CampaignConfig, overrides: Sequence[str]
) -> tuple[CampaignConfig, dict[str, tuple[Any, Any]]]:
    """The config to train with, and {setting: (was, is now)}. Raises ConfigError for what a replay cannot change."""
    before = recorded.model_dump(mode="json")
    config = parse(CampaignConfig, apply_overrides(before, overrides), "the replay")
    changed = differences(before, config.model_dump(mode="json"))
    if fixed := sorted(name for name in changed if name.split(".")[0] not in _MAY_CHANGE):
        raise ConfigError(
            f"a replay cannot change {', '.join(fixed)}",
            f"it trains on what is stored, so only settings of {', '.join(_MAY_CHANGE)} are its own",
            "leave them out; `torl campaign --fork` samples anew with other settings",
        )
    return config, changed


def judged(rows: pa.Table, config: CampaignConfig) -> pa.Table:
    """A step's rows with verdicts of the grader that `config` names, and the rewards and advantages that follow.

    This torl's grader judges them; the verdicts of another one are those in `rows`. Raises GraderUnavailable.
    """
    if config.reward.grader == grading.VERSION:
        return score(rows, config)
    return rewarded(rows, stored_grades(rows), config)


def _grader(config: RewardConfig, manifest: StepManifest) -> str:
    """The version whose verdicts a replay takes. Raises ConfigError for one that there is no way to ask."""
    if config.grader not in (manifest.grader, grading.VERSION):
        raise ConfigError(
            f"reward.grader is {config.grader}, grader {manifest.grader} judged step {manifest.step}, and this torl's "
            f"grader has version {grading.VERSION}",
            "a replay takes the verdicts of its step, or judges again with this torl's grader",
            f"leave reward.grader out, or set it to {grading.VERSION}",
        )
    return config.grader


def _regraded(before: pa.Table, after: pa.Table) -> int:
    verdicts = (table.column("correct").to_pylist() for table in (before, after))
    return sum(was != now for was, now in zip(*verdicts, strict=True))


def _destination(save: str | None) -> Store | None:
    if save is None:
        return None
    destination = Store.open(save)
    there = destination.list("")
    if there and _UNFINISHED not in there:
        raise ConfigError(
            f"--save {save} is not empty", "a replay's checkpoint replaces nothing", "choose a folder that is not there"
        )
    for left in destination.entries(temporary=True):  # by a replay that was killed
        destination.delete(left.key)
    destination.check_writable()
    return destination


def _save(destination: Store, policy: Path, optimizer: Path) -> None:
    destination.write(_UNFINISHED, b"")
    destination.put_folder(optimizer, "optimizer", move=True)
    destination.put_folder(policy, "policy", move=True)
    destination.delete(_UNFINISHED)


def _check_state(store: Store, campaign: str, step: int, policy: Policy, optimizer: Ref | None) -> None:
    needed_by = f"a replay of step {step} of campaign {campaign!r}"
    checked_folder(store, policy.weights_uri, policy.digest, needed_by)
    if optimizer:
        checked_folder(store, optimizer.key, optimizer.digest, needed_by)


def _compare(
    store: Store, manifest: StepManifest, made: Path, state: Path, metrics: Mapping[str, float]
) -> tuple[Outcome, Outcome, float | None]:
    """The replay's outcome, the original's, and the distance of their weights as a share of the original's update."""
    before, after = _kept(store, manifest.policy_in), _kept(store, manifest.policy_out)
    assert before is not None
    replayed = Outcome(digest_folder(made), digest_folder(state), metrics, weights_distance(made, before))
    moved = weights_distance(after, before) if after else None
    optimizer = manifest.optimizer.digest if manifest.optimizer else None
    original = Outcome(manifest.policy_out.digest, optimizer, manifest.metrics, moved)
    return replayed, original, weights_distance(made, after) / moved if after and moved else None


def _kept(store: Store, policy: Policy) -> Path | None:
    """None where the weights are no longer stored."""
    try:
        return store.fetch_folder(policy.weights_uri, policy.digest)
    except StoreError:
        return None
