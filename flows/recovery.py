"""What was stored and is damaged: put aside, and made again from what it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from infra.progress import console
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
        _put_aside(store, damage)
    remade: T = task.with_options(refresh_cache=True)(*inputs)
    return remade


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
        _put_aside(store, damage)
    restore(config, store, step - 1)
    _train_again(config, store, manifest)


def _train_again(config: CampaignConfig, store: CampaignStore, manifest: StepManifest) -> None:
    step, before = manifest.step, store.manifest(manifest.step - 1)
    task = kept_in(store.store, train).with_options(refresh_cache=True)
    scored = Scored(manifest.trajectories[0], 0.0)
    made = task(
        config, step, manifest.policy_in, before.optimizer if before else None, scored, config.learning_rate(step)
    )
    if (made.policy.digest, made.optimizer) != (manifest.policy_out.digest, manifest.optimizer):
        raise StoreError(
            f"the checkpoint of step {step} is damaged, and training it again gave {made.policy.digest[:16]}, "
            f"not {manifest.policy_out.digest[:16]}",
            "It is only replaced by the same bytes",
            f"Install the packages of {store.store.uri_of(store.manifest_key(step))}, or restore it from a copy",
        )
    store.upload_checkpoint(made.policy, made.optimizer)


def _put_aside(store: CampaignStore, damage: DamagedError) -> None:
    aside = store.store.quarantine(damage.key)
    where = f"; put aside as {aside}" if aside else ""
    console.print(f"{damage.what}{where}. It is made again", style="yellow", markup=False)
