"""What was stored and is damaged: put aside, and made again from what it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from infra.lineage import made_under, state_before
from infra.progress import say
from infra.storage import CampaignStore, StepManifest
from tasks.step import Scored, kept_in
from tasks.train import train
from torl_core.config import CampaignConfig
from torl_core.errors import DamagedError, StoreError

T = TypeVar("T")


def kept(store: CampaignStore, step: Any, *inputs: Any, check: Callable[[T], object] | None = None) -> T:
    """The task's result, from an earlier attempt if it left one; made anew where `check` raises DamagedError on it."""
    task = kept_in(store.store, step)
    result: T = task(*inputs)
    if check is None:
        return result
    try:
        check(result)
        return result
    except DamagedError as damage:
        put_aside(store, damage)
        again: T = remade(store, step, *inputs)
        return again


def remade(store: CampaignStore, step: Any, *inputs: Any) -> Any:
    """The task's result anew, whatever an earlier attempt left."""
    return kept_in(store.store, step).with_options(refresh_cache=True)(*inputs)


def restore(config: CampaignConfig, store: CampaignStore, step: int) -> None:
    """Make sure that the checkpoint of a committed step can be gone on from.

    A damaged one is trained again from the step's stored trajectories and the checkpoint before it, which gives the
    same bytes. Raises StoreError where it does not, or nothing sound is left to start from.
    """
    manifest = store.manifest(step)
    if manifest is None or manifest.optimizer is None:
        return
    try:
        store.verify_checkpoint(manifest.policy_out, manifest.optimizer)
        return
    except DamagedError as damage:
        put_aside(store, damage)
    restore(config, store, step - 1)
    _train_again(config, store, manifest)


def _train_again(config: CampaignConfig, store: CampaignStore, manifest: StepManifest) -> None:
    step, (policy, optimizer) = manifest.step, state_before(store, manifest)
    config = made_under(config, manifest)
    scored = Scored(manifest.trajectories[0], 0.0, manifest.grader)
    made = remade(store, train, config, step, policy, optimizer, scored, manifest.metrics["learning_rate"])
    if (made.policy.digest, made.optimizer) != (manifest.policy_out.digest, manifest.optimizer):
        raise StoreError(
            f"the checkpoint of step {step} is damaged, and training it again gave {made.policy.digest[:16]}, "
            f"not {manifest.policy_out.digest[:16]}",
            "It is only replaced by the same bytes",
            f"Install the packages of {store.store.uri_of(store.manifest_key(step))}, or restore it from a copy",
        )
    store.upload_checkpoint(made.policy, made.optimizer)


def put_aside(store: CampaignStore, damage: DamagedError) -> None:
    """Quarantine what is damaged, and say so."""
    aside = store.store.quarantine(damage.key)
    where = f"; put aside as {aside}" if aside else ""
    say(f"{damage.what}{where}. It is made again", "yellow")
