"""Groups of a rollout under way, stored as they are finished, so that a killed one samples only the others."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from functools import partial

from infra.progress import say
from infra.storage import CampaignStore, Record, Ref, records_to_table, table_to_records, versions
from torl_core.config import CampaignConfig
from torl_core.errors import StoreError
from torl_core.protocols import Codec
from torl_core.types import Policy


class Shards:
    """Of one step's rollout. They count only for the same settings, policy, problems and code.

    A quick rollout writes none: the first comes `rollout.save_every_s` after the start, and each holds whole groups.
    """

    def __init__(self, config: CampaignConfig, store: CampaignStore, step: int, policy: Policy, problems: Ref) -> None:
        deciding = f"{config.conditions()} {policy.digest} {problems.digest} {versions()['code']}"
        self._store, self._step = store, step
        self._inputs = hashlib.sha256(deciding.encode()).hexdigest()[:16]
        self._group_size, self._every_s = config.rollout.samples_per_problem, config.rollout.save_every_s
        self._begun: dict[str, list[Record]] = {}
        self._whole: list[Record] = []
        self._written_at = time.monotonic()
        self._writing: asyncio.Future[None] | None = None

    def stored(self) -> list[Record]:
        """Whole groups that an earlier attempt stored; damaged shards are moved to quarantine. Raises StoreError."""
        tables, damaged = self._store.shards(self._step, self._inputs)
        for key in damaged:
            say(f"{key} is damaged and was moved to quarantine. Its groups are sampled again", "yellow")
        records = {record.trajectory.trajectory_id: record for table in tables for record in table_to_records(table)}
        return list(records.values())

    def add(self, record: Record, codec: Codec) -> None:
        """On the event loop, as each trajectory ends."""
        group = self._begun.setdefault(record.trajectory.group_id, [])
        group.append(record)
        if len(group) == self._group_size:
            self._whole += self._begun.pop(record.trajectory.group_id)
        idle = self._writing is None or self._writing.done()
        if self._whole and idle and time.monotonic() - self._written_at >= self._every_s:
            self._written_at = time.monotonic()
            write = partial(self._write, self._taken(), codec)
            self._writing = asyncio.get_running_loop().run_in_executor(None, write)

    async def settle(self) -> None:
        """Wait for what is being written. Raises StoreError."""
        if self._writing is not None:
            await self._writing

    def rescue(self, codec: Codec) -> None:
        """The rollout failed or is ended: store what is whole. Its own error matters more than one of the store's."""
        with suppress(StoreError):
            self._write(self._taken(), codec)

    def _taken(self) -> list[Record]:
        records, self._whole = self._whole, []
        return records

    def _write(self, records: list[Record], codec: Codec) -> None:
        if records:
            self._store.put_shard(self._step, self._inputs, records_to_table(records, codec))
