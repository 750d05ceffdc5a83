"""Copy campaigns between stores, a folder and S3 alike.

What manifests name goes first and the manifests last, so a reader of the copy sees whole steps only, and an interrupted
copy goes on when the same command is given again. Every byte is digested on its way and compared with what the manifest
recorded. What is already there and equal is skipped; anything else under the same name is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from infra.storage.campaign import CampaignStore
from infra.storage.digests import combine_digests
from infra.storage.inventory import Listing, Named, forked, named_by, unique
from infra.storage.store import REMOVED, Store
from infra.storage.verification import choose, digest_object
from torl_core.errors import ConfigError, StoreError

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to copy, as it was at one moment: a campaign may go on meanwhile."""

    campaigns: Sequence[CampaignStore]
    manifests: Sequence[tuple[str, bytes]]
    objects: Sequence[Named]
    source: Listing

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for named in self.objects for entry in self.source.of_object(named))


@dataclass(frozen=True, slots=True)
class Copied:
    objects: int
    """Copied now."""
    skipped: int
    """Already there, or removed by retention on either side."""


def plan(source: Store, target: Store, campaign: str | None = None) -> Plan:
    """Raises ConfigError for an unknown campaign or one store given twice, StoreError where the target has other
    content under the same names; nothing is written yet."""
    if source.uri == target.uri:
        raise ConfigError(f"both stores are {source.uri}", "A copy goes to another store", "Give two addresses")
    chosen = choose(source, campaign)
    listing = Listing.of(source)
    manifests: list[tuple[str, bytes]] = []
    named: list[Named] = []
    for one in chosen:
        _check_config(one, CampaignStore(target, one.name))
        found = one.manifests()
        named += [*forked(one.config(), one), *(named for manifest in found.values() for named in named_by(manifest))]
        for key in _with_compactions(found, listing):
            data = source.read(key)
            if target.exists(key) and target.read(key) != data:
                raise _conflict(target, key)
            manifests.append((key, data))
    return Plan(chosen, manifests, unique(named), listing)


def copy(plan: Plan, target: Store, on_bytes: Callable[[int], None] = lambda _: None) -> Copied:
    """Hold the campaigns in the target and copy. `on_bytes` hears of bytes done, from several threads.

    Raises StoreError: what was copied by then stays, and the same command goes on from there.
    """
    campaigns = [CampaignStore(target, one.name) for one in plan.campaigns]
    with ExitStack() as stack:
        for campaign in campaigns:
            stack.enter_context(campaign.hold("torl store cp"))
        there = Listing.of(target)
        executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="copy")
        try:
            copies = (
                _Object(one, plan.campaigns[0].store, target, plan.source, there, on_bytes) for one in plan.objects
            )
            copied = sum(executor.map(_Object.copy, copies))
        finally:
            executor.shutdown(cancel_futures=True)
        for one, campaign in zip(plan.campaigns, campaigns, strict=True):
            campaign.check_held()
            if (config := one.config()) and campaign.config() is None:
                target.write_json(f"campaigns/{one.name}/config.json", config)
        for key, data in plan.manifests:
            target.write_once(key, data)
    return Copied(copied, len(plan.objects) - copied)


@dataclass(frozen=True, slots=True)
class _Object:
    """One named object on its way."""

    named: Named
    source: Store
    target: Store
    source_has: Listing
    target_has: Listing
    on_bytes: Callable[[int], None]

    def copy(self) -> bool:
        """False where nothing was to be copied."""
        files = {entry.key: entry.bytes for entry in self.source_has.of_object(self.named)}
        there = {entry.key: entry.bytes for entry in self.target_has.of_object(self.named)}
        note = f"{self.named.key}/{REMOVED}"
        if note in files or note in there or self._is_there(files, there):
            self.on_bytes(sum(files.values()))
            if note in files and not there:
                self.target.write(note, self.source.read(note))
            return False
        if not files:
            raise _changed(self.source, self.named.key, "is not there")
        if foreign := sorted(there.keys() - files.keys()):
            raise _conflict(self.target, foreign[0])
        self._copy_files(files, there)
        return True

    def _is_there(self, files: dict[str, int], there: dict[str, int]) -> bool:
        if not there or (files and files != there):
            return False
        digests = {key: digest_object(self.target, key) for key in there}
        return self._digest(digests) == self.named.digest

    def _copy_files(self, files: dict[str, int], there: dict[str, int]) -> None:
        digests, made = {}, []
        for key in files:
            if key in there:
                digests[key] = digest_object(self.source, key, self.on_bytes)
                if digest_object(self.target, key) != digests[key]:
                    raise _conflict(self.target, key)
            else:
                digests[key] = self.target.put_chunks(key, self._read(key))
                made.append(key)
        if (found := self._digest(digests)) != self.named.digest:
            for key in made:
                self.target.delete(key)
            raise _changed(self.source, self.named.key, f"has digest {found[:16]}, not {self.named.digest[:16]}")

    def _read(self, key: str) -> Any:
        for data in self.source.chunks(key):
            self.on_bytes(len(data))
            yield data

    def _digest(self, digests: dict[str, str]) -> str:
        if not self.named.is_folder:
            return digests[self.named.key]
        return combine_digests({key.removeprefix(f"{self.named.key}/"): digest for key, digest in digests.items()})


def _with_compactions(keys: Iterable[str], listing: Listing) -> Iterator[str]:
    """Manifests' keys, each behind that of its compaction: a step that is visible is read as at the source."""
    for key in keys:
        compaction = key.removesuffix("manifest.json") + "compacted.json"
        if listing.at(compaction):
            yield compaction
        yield key


def _check_config(source: CampaignStore, target: CampaignStore) -> None:
    if source.config() and target.config() and _identity(source) != _identity(target):
        raise StoreError(
            f"campaign {target.name!r} in {target.store.uri} was started with other settings",
            "A copy adds to the same campaign only",
            "Copy into another store, or choose the campaign with --campaign",
        )


def _identity(campaign: CampaignStore) -> Any:
    try:
        return campaign.recorded_config().identity()
    except StoreError:
        return campaign.config()  # of another version of torl: only an equal one is the same


def _conflict(target: Store, key: str) -> StoreError:
    return StoreError(
        f"{target.uri_of(key)} exists with other content",
        "What is stored is never changed",
        "If it is damaged (`torl store verify`), move it away and copy again; otherwise copy into another store",
    )


def _changed(source: Store, key: str, what: str) -> StoreError:
    return StoreError(
        f"{source.uri_of(key)} {what}",
        "Only what a manifest names, and as it names it, is copied",
        "Check the source with `torl store verify`; if its campaign is running, give the same command again",
    )
