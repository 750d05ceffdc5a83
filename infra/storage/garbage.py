"""What crashes left in a store, found and removed.

Garbage is only what has a known place in the layout and is of no use to anyone: no manifest names it, and no finished
task of an unfinished step does, from which the campaign would resume. A campaign that a living run holds is left alone,
and so is everything too young to be told from work in progress. Other files are not this project's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from infra.storage.campaign import CampaignStore, campaigns
from infra.storage.inventory import forked, named_by
from infra.storage.store import REMOVED, Entry, Store
from torl_core.errors import StoreError, UnreadableError

RESULTS = "prefect-results"
"""Where finished tasks leave what they gave out."""
_AT_ONCE = 8

_OWNER = re.compile(r"(?:campaigns|checkpoints)/([^/]+)/|(?:trajectories|evaluations|staging)/campaign=([^/]+)/")
_KEPT = re.compile(
    r"campaigns/[^/]+/(?:config\.json|steps/\d+/(?:manifest|compacted)\.json|evaluations/\d+/[^/]+\.json|lease/\d+\.json)"
    rf"|problems/\w+\.parquet|rejected/\w+\.jsonl|{RESULTS}/[^/]+|report\.html|quarantine/.+"
)
"""What was put aside as damaged is a person's to look at and to delete."""
_CHECKPOINT = re.compile(r"(checkpoints/[^/]+/step=\d+/(?:policy|optimizer))/.+")
_PLACE = re.compile(
    r"(?:trajectories|evaluations)/campaign=[^/]+/step=(\d+)/(?:[^/]+/)*part-\w+\.parquet"
    r"|staging/campaign=[^/]+/step=(\d+)/.+"
    r"|checkpoints/[^/]+/step=(\d+)/(?:policy|optimizer)"
)
"""Where what a step makes may lie, checkpoints taken as folders."""
_HIDDEN = re.compile(r"(?:.*?/)??\.(?:torl-tmp|probe)-[^/]*")


@dataclass(frozen=True, slots=True)
class Garbage:
    """An object or folder to remove; with `upload`, an unfinished multipart upload to it."""

    key: str
    bytes: int
    why: str
    modified: datetime
    campaign: str | None
    upload: str | None = None


@dataclass(slots=True)
class Found:
    garbage: list[Garbage] = field(default_factory=list)
    young: list[Garbage] = field(default_factory=list)
    """Would be garbage, but was written too recently."""
    resumable: list[str] = field(default_factory=list)
    """Parts of unfinished steps that are kept because their campaigns resume from them."""
    unknown: list[str] = field(default_factory=list)
    """Not of this store's layout; never touched."""
    spared: dict[str, str] = field(default_factory=dict)
    """{campaign: why nothing of it was looked at}."""
    unreadable: set[str] = field(default_factory=set)
    """Those of `spared` whose manifests or leases are damaged."""


def find(store: Store, older_than: timedelta, ours: Iterable[str] = ()) -> Found:
    """Judge every object. `ours`: campaigns whose lease this process holds. Raises StoreError."""
    found = Found()
    leases, torn = _spared(store, ours)
    committed = _committed(store, leases)
    found.spared = leases | committed.unreadable
    found.unreadable = torn | committed.unreadable.keys()
    everything = [*_judge(store, committed, found), *_hidden(store), *_uploads(store, found)]
    candidates = [one for one in everything if _is_free(one, found.spared, any_held=bool(leases))]
    if candidates:
        limit = store.now() - older_than
        found.garbage = sorted((one for one in candidates if one.modified <= limit), key=lambda one: one.key)
        found.young = sorted((one for one in candidates if one.modified > limit), key=lambda one: one.key)
    return found


def collect(store: Store, older_than: timedelta, on_removed: Callable[[Garbage], None] = lambda _: None) -> Found:
    """Remove the garbage, holding the lease of every campaign it belongs to. Raises StoreError."""
    names = {campaign.name for campaign in campaigns(store)}
    with ExitStack() as stack:
        ours: dict[str, CampaignStore] = {}
        for name in sorted({one.campaign for one in find(store, older_than).garbage if one.campaign} & names):
            campaign = CampaignStore(store, name)
            with suppress(StoreError):  # a run has just taken it: what is found now says so
                stack.enter_context(campaign.hold("torl store gc"))
                ours[name] = campaign
        found = find(store, older_than, ours)
        found.garbage = [one for one in found.garbage if one.campaign not in names - ours.keys()]
        for one in found.garbage:
            if one.campaign in ours:
                ours[one.campaign].check_held()
            _remove(store, one)
            on_removed(one)
    return found


def _spared(store: Store, ours: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """{campaign: why it is left alone}, and those whose lease cannot be read: a living run may hold them."""
    spared: dict[str, str] = {}
    torn: set[str] = set()
    for campaign in campaigns(store):
        if campaign.name in ours:
            continue
        try:
            if holder := campaign.holder():
                spared[campaign.name] = f"held by {holder}"
        except UnreadableError as error:
            spared[campaign.name] = error.what
            torn.add(campaign.name)
    return spared, torn


@dataclass(slots=True)
class _Committed:
    steps: set[tuple[str | None, int]] = field(default_factory=set)
    """(campaign, step)"""
    named: set[str] = field(default_factory=set)
    """Every key that a manifest names."""
    replaced: dict[str, datetime] = field(default_factory=dict)
    """When the rows of a file began to be read from a compacted one; readers may have been at it until then."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Campaigns of which it cannot be said what they name, and why."""


def _committed(store: Store, leases: Container[str]) -> _Committed:
    committed = _Committed()
    for campaign in campaigns(store):
        if campaign.name in leases:
            continue
        try:
            steps, evaluations = campaign.steps(), campaign.evaluations()
            committed.named |= {one.key for one in forked(campaign.config(), campaign)}
            committed.named |= {one.key for manifest in steps for one in named_by(manifest)}
            committed.named |= {one.key for manifest in evaluations for one in named_by(manifest)}
            committed.steps |= {(campaign.name, manifest.step) for manifest in steps}
            for compaction, when in campaign.compactions():
                if all(store.exists(ref.key) for ref in compaction.trajectories):
                    committed.replaced |= {ref.key: when for ref in compaction.replaces}
                else:  # damage, and these are the rows that are left
                    committed.named |= {ref.key for ref in compaction.replaces}
        except StoreError as error:
            committed.unreadable[campaign.name] = error.what
    return committed


def _is_free(one: Garbage, spared: Container[str], *, any_held: bool) -> bool:
    """What belongs to no campaign in particular may be any living run's."""
    return not any_held if one.campaign is None else one.campaign not in spared


# --- visible objects


def _judge(store: Store, committed: _Committed, found: Found) -> Iterator[Garbage]:
    unfinished: list[Garbage] = []
    for key, files in groupby(store.entries(), lambda entry: _unit(entry.key)):
        owner, step = _owner(key), _step(key)
        if owner in found.spared or _KEPT.fullmatch(key):
            continue
        if step is None:
            found.unknown.append(key)
        elif key in committed.named:
            yield from _beside_a_note(key, list(files))
        elif key in committed.replaced:
            replaced = _garbage(key, list(files), "its rows are in a compacted file")
            yield replace(replaced, modified=max(replaced.modified, committed.replaced[key]))
        elif (owner, step) in committed.steps:
            is_staging = key.startswith("staging/")
            yield _garbage(key, list(files), "staging of a committed step" if is_staging else "no manifest names it")
        elif key.startswith("evaluations/"):
            yield _garbage(key, list(files), "no manifest names it")
        elif key.startswith("staging/"):
            found.resumable.append(key)
        else:
            unfinished.append(_garbage(key, list(files), "of an unfinished step, and no finished task gave it out"))
    results = _results(store, {one.campaign for one in unfinished})
    for one in unfinished:
        if one.key in results:
            found.resumable.append(one.key)
        else:
            yield one


def _beside_a_note(folder: str, files: Sequence[Entry]) -> Iterator[Garbage]:
    """Where retention removed a folder, its note alone stays."""
    note = f"{folder}/{REMOVED}"
    if any(entry.key == note for entry in files):
        rest = (entry for entry in files if entry.key != note)
        yield from (_garbage(entry.key, [entry], "of a checkpoint that retention removed") for entry in rest)


def _results(store: Store, names: Collection[str | None]) -> str:
    """What the finished tasks of these campaigns gave out, as text: resuming takes it from there."""
    keys = store.list(RESULTS) if names else []
    wanted = [key for key in keys if any(key.startswith(f"{RESULTS}/{name}-") for name in names)]
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        return "\n".join(executor.map(lambda key: store.read(key).decode(errors="replace"), wanted))


def _unit(key: str) -> str:
    """Checkpoints are judged as folders, everything else by itself."""
    match = _CHECKPOINT.fullmatch(key)
    return match[1] if match else key


def _owner(key: str) -> str | None:
    match = _OWNER.match(key)
    return match[1] or match[2] if match else None


def _step(unit: str) -> int | None:
    match = _PLACE.fullmatch(unit)
    return int(match[match.lastindex or 0]) if match else None


def _garbage(key: str, files: Sequence[Entry], why: str) -> Garbage:
    size, newest = sum(entry.bytes for entry in files), max(entry.modified for entry in files)
    return Garbage(key, size, why, newest, _owner(key))


# --- what listings do not show


def _hidden(store: Store) -> Iterator[Garbage]:
    for key, files in groupby(store.entries(temporary=True), lambda entry: _hidden_top(entry.key)):
        yield _garbage(key, list(files), "temporary")


def _hidden_top(key: str) -> str:
    """The whole temporary folder that a file is in."""
    match = _HIDDEN.match(key)
    return match[0] if match else key


def _uploads(store: Store, found: Found) -> Iterator[Garbage]:
    if not store.is_s3:
        return
    for key, upload, started in store.unfinished_uploads():
        if _owner(key) in found.spared:
            continue
        if _step(_unit(key)) is not None or _KEPT.fullmatch(key) or _HIDDEN.match(key):
            yield Garbage(key, 0, "unfinished upload", started, _owner(key), upload)
        else:
            found.unknown.append(f"{key} (unfinished upload)")


def _remove(store: Store, one: Garbage) -> None:
    if one.upload:
        store.abort_upload(one.key, one.upload)
        return
    store.delete(one.key)
    if store.is_local and one.campaign:
        _remove_empty_parents(Path(store.path(one.key)), Path(store.root))


def _remove_empty_parents(path: Path, root: Path) -> None:
    """Up to, not including, the first two levels, which other campaigns may be writing to."""
    for parent in path.parents:
        if len(parent.relative_to(root).parts) <= 2:
            return
        try:
            parent.rmdir()
        except OSError:
            return
