"""Merge the small files of a step's rows after the fact, without changing what readers see.

A manifest never changes. What a compaction writes is one large file beside the small ones, holding the same rows in the
same order, and then, once, a `Compaction` beside the manifest; from that moment readers take the rows from the large
file. One that looked before goes on with the small files, which `torl store gc` removes later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.storage.campaign import CampaignStore, Compaction, Ref, StepManifest, get_table_as_written
from torl_core.errors import StoreError

TARGET_BYTES = 128 << 20
"""Files are merged up to this size, compressed; what is larger by itself stays as it is."""


@dataclass(frozen=True, slots=True)
class Compacted:
    step: int
    files_before: int
    files_after: int


def compact(campaign: CampaignStore) -> Iterator[Compacted]:
    """Merge what can be merged, step by step; a step is merged once. Whoever iterates holds the campaign.

    Raises StoreError, also when what was written is not equal to what was there; such a file is never read.
    """
    done = {compaction.step for compaction, _ in campaign.compactions()}
    for manifest in campaign.steps():
        if manifest.step not in done and (merged := _merge(campaign, manifest)) != manifest.trajectories:
            campaign.commit_compaction(Compaction(campaign.name, manifest.step, manifest.trajectories, merged))
            yield Compacted(manifest.step, len(manifest.trajectories), len(merged))


def _merge(campaign: CampaignStore, manifest: StepManifest) -> tuple[Ref, ...]:
    groups = grouped(manifest.trajectories)
    return tuple(group[0] if len(group) == 1 else _merge_group(campaign, manifest.step, group) for group in groups)


def grouped(refs: Sequence[Ref], limit: int = TARGET_BYTES) -> list[list[Ref]]:
    """Neighbours that fit into one file together, in order."""
    groups: list[list[Ref]] = []
    for ref in refs:
        if groups and sum(one.bytes for one in groups[-1]) + ref.bytes <= limit:
            groups[-1].append(ref)
        else:
            groups.append([ref])
    return groups


def _merge_group(campaign: CampaignStore, step: int, group: Sequence[Ref]) -> Ref:
    tables = [get_table_as_written(campaign.store, ref) for ref in group]
    if any(not table.schema.equals(tables[0].schema, check_metadata=True) for table in tables):
        raise StoreError(
            f"the files of step {step} of campaign {campaign.name!r} have different schemas",
            "Only files of one schema version are merged",
            "Leave this campaign as it is",
        )
    rows = pa.concat_tables(tables)
    merged = campaign.put_trajectories(step, rows)
    if not get_table_as_written(campaign.store, merged).equals(rows):
        raise StoreError(
            f"{campaign.store.uri_of(merged.key)} does not read back as it was written",
            "A compaction changes no row",
            "Nothing was replaced; remove it with `torl store gc`, and report this with the versions of pyarrow",
        )
    return merged
