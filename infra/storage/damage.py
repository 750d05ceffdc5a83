"""What is damaged in a store, and what of each campaign can be read all the same.

One campaign's damage is no other's: whoever reads a whole store goes on without the damaged objects and names each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from infra.storage.campaign import CampaignStore, EvaluationManifest, Ref, StepManifest
from infra.storage.store import Store
from torl_core.errors import ObjectError, StoreError, UnreadableError

FROM_A_COPY = "Move what is left of it out of the store and restore it from a copy (`torl store cp`)"
EVALUATION = f"{FROM_A_COPY}, or move the evaluation's manifest away too and evaluate again"


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is not what it must be, and what to do about it."""

    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}. {self.remedy}."


OnDamage = Callable[[Damage], None]

T = TypeVar("T")
_AT_ONCE = 4


def refuse(damage: Damage) -> NoReturn:
    """The `OnDamage` of whoever needs the whole store."""
    raise UnreadableError(
        f"{damage.key}: {damage.what}", "What a store names is there and whole", damage.remedy, damage.key
    )


@dataclass(frozen=True, slots=True)
class Contents:
    """What can be read of one campaign."""

    campaign: CampaignStore
    config: Mapping[str, Any] | None
    manifests: Mapping[str, StepManifest | EvaluationManifest]
    """By key: the steps in order, then the evaluations."""

    @property
    def steps(self) -> dict[str, StepManifest]:
        return {key: one for key, one in self.manifests.items() if isinstance(one, StepManifest)}

    @property
    def evaluations(self) -> dict[str, EvaluationManifest]:
        return {key: one for key, one in self.manifests.items() if isinstance(one, EvaluationManifest)}


def contents(campaign: CampaignStore, on_damage: OnDamage) -> Contents:
    """Raises StoreError only where the store does not answer; what one file holds is for `on_damage`."""
    config = attempt(campaign.config_key, campaign.config, on_damage)
    return Contents(campaign, config, campaign.manifests(lambda key, error: _note(key, error, on_damage)))


def attempt(key: str, read: Callable[[], T], on_damage: OnDamage) -> T | None:
    """What `read` reads; None where it cannot be read, which `on_damage` then hears. Raises as `contents`."""
    try:
        return read()
    except StoreError as error:
        _note(key, error, on_damage)
        return None


def _note(key: str, error: StoreError, on_damage: OnDamage) -> None:
    if error.retryable:
        raise error
    on_damage(Damage(error.key if isinstance(error, ObjectError) else key, error.what, error.remedy))


def table_sizes(store: Store) -> dict[str, int]:
    """{key: bytes} of every file of rows that is there."""
    return {entry.key: entry.bytes for folder in ("trajectories", "evaluations") for entry in store.entries(folder)}


def damaged_tables(
    manifests: Iterable[StepManifest | EvaluationManifest], sizes: Mapping[str, int]
) -> Iterator[Damage]:
    """Files of rows that are missing, or of another size than recorded; `sizes` as of `table_sizes`."""
    for manifest in manifests:
        for ref in manifest.trajectories:
            if what := _difference(ref, sizes.get(ref.key)):
                yield Damage(ref.key, what, EVALUATION if isinstance(manifest, EvaluationManifest) else FROM_A_COPY)


def unsound_tables(store: Store, refs: Sequence[Ref]) -> Iterator[Damage]:
    """Those files of rows whose bytes, all of which are read, are not those recorded."""

    def damage(ref: Ref) -> Damage | None:
        noted: list[Damage] = []
        attempt(ref.key, lambda: store.get_object(ref.key, ref.digest), noted.append)
        return noted[0] if noted else None

    with ThreadPoolExecutor(_AT_ONCE) as executor:
        yield from filter(None, executor.map(damage, refs))


def _difference(ref: Ref, found: int | None) -> str | None:
    if found is None:
        return "it is not there"
    return f"it has {found} bytes, recorded were {ref.bytes}" if ref.bytes not in (0, found) else None
