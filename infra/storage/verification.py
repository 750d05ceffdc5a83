"""Read back everything that manifests name: bytes against digests, tables against their row counts.

Objects are streamed, a few at a time, so memory is bounded whatever their size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage.campaign import CampaignStore, campaigns
from infra.storage.damage import EVALUATION, FROM_A_COPY, Damage, contents
from infra.storage.digests import combine_digests
from infra.storage.inventory import Listing, Named, forked, named_by, unique
from infra.storage.records import impossible, under_other_rules
from infra.storage.store import REMOVED, Store
from torl_core.errors import ConfigError, StoreError

_AT_ONCE = 4
_REMEDIES = {
    "policy": f"{FROM_A_COPY}, or go on from another step (`torl campaign --fork`)",
    "optimizer": f"{FROM_A_COPY}, or go on from another step (`torl campaign --fork`)",
    "evaluation": EVALUATION,
    "problems": f"{FROM_A_COPY}, or run `torl evaluate` with the same problems: it stores them again",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to read."""

    objects: Sequence[Named]
    listing: Listing
    damaged: Sequence[Damage]
    """Configs and manifests that cannot be understood, so that what they name is not known, or that cannot be true."""
    notes: Mapping[str, str]
    """{key: why} of configs that this version of torl refuses and an earlier one took."""

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for named in self.objects for entry in self.listing.of_object(named))


def plan(store: Store, campaign: str | None = None) -> Plan:
    """Everything the manifests of the store, or of one campaign, name. Raises ConfigError for an unknown campaign."""
    chosen = choose(store, campaign)
    named: list[Named] = []
    damaged: list[Damage] = []
    notes: dict[str, str] = {}
    for one in chosen:
        unreadable: list[Damage] = []
        found = contents(one, unreadable.append)
        known = {damage.key for damage in unreadable}
        damaged += [*unreadable, *(damage for damage in impossible(found) if damage.key not in known)]
        notes |= {one.config_key: why} if (why := under_other_rules(found)) else {}
        named += forked(found.config, one)
        named += [named for manifest in found.manifests.values() for named in named_by(manifest)]
    return Plan(unique(named), Listing.of(store), damaged, notes)


def choose(store: Store, campaign: str | None) -> list[CampaignStore]:
    """All campaigns, or the one of that name. Raises ConfigError when there is none."""
    found = campaigns(store)
    if not found:
        raise ConfigError(
            f"{store.uri} holds no campaign",
            "A store has one once a campaign was started",
            "Check the address",
        )
    if campaign is None:
        return found
    if campaign not in {one.name for one in found}:
        raise ConfigError(
            f"{store.uri} has no campaign {campaign!r}",
            "A campaign is named as in its config",
            f"Choose one of: {', '.join(one.name for one in found)}",
        )
    return [one for one in found if one.name == campaign]


def verify(store: Store, plan: Plan, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[Damage | None]:
    """For each object of `plan`, in order, None or its damage. `on_bytes` hears of bytes read, from several threads.

    Raises StoreError when the store fails, which says nothing about its objects.
    """
    executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify")
    try:
        yield from executor.map(partial(_damage, store, plan.listing, on_bytes), plan.objects)
    finally:
        executor.shutdown(cancel_futures=True)


def _damage(store: Store, listing: Listing, on_bytes: Callable[[int], None], named: Named) -> Damage | None:
    files = [entry.key for entry in listing.of_object(named)]
    if not files:
        return _damaged(named, "it is not there")
    if named.is_folder and f"{named.key}/{REMOVED}" in files:
        return None
    try:
        digests = {key: digest_object(store, key, on_bytes) for key in files}
    except StoreError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return _damaged(named, "it went away while it was read")
    if named.is_folder:
        found = combine_digests({key.removeprefix(f"{named.key}/"): digest for key, digest in digests.items()})
    else:
        found = digests[named.key]
    if found != named.digest:
        return _damaged(named, f"its digest is {found[:16]}, recorded was {named.digest[:16]}")
    if not named.is_folder and (rows := _rows(store, named.key)) != named.rows:
        return _damaged(named, f"it has {rows} rows, recorded were {named.rows}")
    return None


def digest_object(store: Store, key: str, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of one object, read in pieces."""
    digest = hashlib.sha256()
    for data in store.chunks(key):
        digest.update(data)
        on_bytes(len(data))
    return digest.hexdigest()


def _rows(store: Store, key: str) -> int | None:
    """From the file's footer; None where it is no Parquet."""
    with store.fs.open(store.path(key), "rb") as file:
        try:
            return int(pq.ParquetFile(file).metadata.num_rows)
        except pa.ArrowInvalid:
            return None


def _damaged(named: Named, what: str) -> Damage:
    return Damage(named.key, what, _REMEDIES.get(named.kind, FROM_A_COPY))
