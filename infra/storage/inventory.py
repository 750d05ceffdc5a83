"""What manifests name, beside what the store lists: the common ground of listing, verifying, collecting and copying."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from infra.storage.campaign import CampaignStore, EvaluationManifest, Ref, StepManifest
from infra.storage.store import Entry, Store, is_outside

Kind = Literal["trajectories", "evaluation", "problems", "policy", "optimizer"]


_FOLDERS: tuple[Kind, ...] = ("policy", "optimizer")


@dataclass(frozen=True, slots=True)
class Named:
    """An object of this store that a manifest names: a Parquet file, or a folder (policy, optimizer)."""

    kind: Kind
    campaign: str
    step: int
    key: str
    digest: str
    rows: int = 0

    @property
    def is_folder(self) -> bool:
        return self.kind in _FOLDERS


def named_by(manifest: StepManifest | EvaluationManifest) -> Iterator[Named]:
    """Everything in the store that `manifest` names. A policy at an absolute address lies outside and is left out."""

    def named(kind: Kind, ref: Ref, step: int = manifest.step) -> Named:
        return Named(kind, manifest.campaign, step, ref.key, ref.digest, ref.rows)

    is_step = isinstance(manifest, StepManifest)
    yield from (named("trajectories" if is_step else "evaluation", ref) for ref in manifest.trajectories)
    if manifest.problems:
        yield named("problems", manifest.problems)
    policies = [manifest.policy_in, manifest.policy_out] if isinstance(manifest, StepManifest) else [manifest.policy]
    for policy in policies:
        if not is_outside(policy.weights_uri):
            yield named("policy", Ref(policy.weights_uri, policy.digest), policy.version)
    if isinstance(manifest, StepManifest) and manifest.optimizer:
        yield named("optimizer", manifest.optimizer)


def forked(config: Mapping[str, Any] | None, campaign: CampaignStore) -> Iterator[Named]:
    """What a fork started from: its own copy, which its config names."""
    fork = (config or {}).get("fork")
    if not isinstance(fork, Mapping):
        return
    for kind in _FOLDERS:
        if digest := fork.get(kind):
            yield Named(kind, campaign.name, 0, f"{campaign.checkpoint_key(0)}/{kind}", digest)


def unique(objects: Iterable[Named]) -> list[Named]:
    """Each object once, where it was first named."""
    return list({(named.key, named.digest): named for named in reversed(list(objects))}.values())[::-1]


class Listing:
    """What the store holds at one moment: every object with its size, folders by prefix."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._keys = [entry.key for entry in entries]

    @classmethod
    def of(cls, store: Store) -> Listing:
        return cls(store.entries())

    def below(self, folder: str) -> list[Entry]:
        """Objects in `folder` at any depth, by key."""
        prefix = f"{folder}/"
        start = bisect_left(self._keys, prefix)
        return list(takewhile(lambda entry: entry.key.startswith(prefix), self.entries[start:]))

    def at(self, key: str) -> Entry | None:
        index = bisect_left(self._keys, key)
        return self.entries[index] if index < len(self._keys) and self._keys[index] == key else None

    def of_object(self, named: Named) -> list[Entry]:
        """The files that make up a named object; empty where it is missing."""
        if named.is_folder:
            return self.below(named.key)
        entry = self.at(named.key)
        return [entry] if entry else []
