"""One writer per campaign, on any store: epochs under `campaigns/<name>/lease/`, of which the highest rules.

Taking the lease creates the next epoch; the holder rewrites its own every few seconds, and one that is not renewed for
`TTL_S` by the store's own clock has expired. Where the store has conditional puts, and on a folder, creation is atomic.
Elsewhere two may write the same epoch: each waits `SETTLE_S`, and only the one whose content stayed goes on.
Before every commit the holder looks again, so one that was taken over, however late it wakes, commits nothing.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from infra.storage.store import Store
from torl_core.errors import StoreError, UnreadableError

TTL_S = 60.0
RENEW_S = 10.0
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a campaign: enough to find the process, and to tell on its own machine whether it still lives."""

    owner: str
    host: str
    machine: str
    """Boot and process namespace: process ids compare only where this is equal."""
    pid: int
    started: float
    flow_run: str
    since: str
    released: bool = False

    @classmethod
    def this_process(cls, flow_run: str) -> Holder:
        return cls(
            uuid.uuid4().hex, socket.gethostname(), _machine(), os.getpid(), psutil.Process().create_time(),
            flow_run, datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip

    def is_dead(self) -> bool:
        """True only where it can be known: on the holder's own machine."""
        if self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


class Lease:
    """A held lease. `check` raises once another writer took over."""

    def __init__(self, store: Store, folder: str, epoch: int, holder: Holder) -> None:
        self.store, self.folder, self.epoch, self.holder = store, folder, epoch, holder

    @property
    def key(self) -> str:
        return _key(self.folder, self.epoch)

    def check(self) -> None:
        """Raises StoreError, naming the new holder, when this lease is no longer the highest epoch."""
        current = _current(self.store, self.folder)
        if current is None or current[1].owner != self.holder.owner:
            by = f"taken over by {_describe(current[1])}" if current else "removed"
            raise StoreError(
                f"the lease of {self.store.uri_of(self.folder)} was {by}",
                "One run at a time writes a campaign, and this one commits nothing more",
                "Let the other run go on; the same command resumes from what it stored",
            )

    def renew(self) -> None:
        self.check()
        self.store.write_json(self.key, asdict(self.holder))

    def release(self) -> None:
        self.check()
        self.store.write_json(self.key, asdict(replace(self.holder, released=True)))


def take(store: Store, folder: str, flow_run: str) -> Lease:
    """The lease on `folder`. Raises StoreError, saying who holds it and since when, while another run does."""
    current = _current(store, folder)
    if current is not None:
        _refuse_if_alive(store, folder, *current)
    lease = Lease(store, folder, current[0] + 1 if current else 1, Holder.this_process(flow_run))
    if not store.create_json(lease.key, asdict(lease.holder)):
        lease.check()  # another run was faster; this says which
    if not store.creates_atomically:
        time.sleep(SETTLE_S)
        lease.check()
    for key in store.list(folder):
        if key < lease.key:
            store.delete(key)
    return lease


_held: dict[tuple[str, str], Lease] = {}


@contextmanager
def held(store: Store, folder: str, flow_run: str) -> Iterator[Lease]:
    """Hold the lease, renewed by a thread, while the block runs; commits of this process check it."""
    lease = take(store, folder, flow_run)
    _held[store.uri, folder] = lease
    stop = threading.Event()
    thread = threading.Thread(target=_renew_until, args=(lease, stop), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        del _held[store.uri, folder]
        # Taken over, or the store is gone: it expires by itself, and must not hide the block's own error.
        with suppress(StoreError):
            lease.release()


def check_held(store: Store, folder: str) -> None:
    """Raises StoreError when this process held the lease on `folder` and lost it."""
    if lease := _held.get((store.uri, folder)):
        lease.check()


def _renew_until(lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(RENEW_S):
        try:
            lease.renew()
        except StoreError:
            continue  # the next commit checks and reports; a store that comes back is renewed


def living(store: Store, folder: str) -> str | None:
    """Who holds the lease on `folder` now, in words; None where nobody does."""
    current = _current(store, folder)
    return _describe(current[1]) if current and _left_s(store, folder, *current) > 0 else None


def _left_s(store: Store, folder: str, epoch: int, holder: Holder) -> float:
    """Seconds until the lease expires if it is not renewed; 0 where it was released or its holder is known dead."""
    if holder.released or holder.is_dead():
        return 0.0
    return TTL_S - (store.now() - store.modified(_key(folder, epoch))).total_seconds()


def _refuse_if_alive(store: Store, folder: str, epoch: int, holder: Holder) -> None:
    left = _left_s(store, folder, epoch, holder)
    if left > 0:
        raise StoreError(
            f"{store.uri_of(folder)} is held by {_describe(holder)}",
            "One run at a time writes a campaign",
            f"Let it go on or end it; if its machine is lost, the lease expires in {left:.0f} s, "
            f"or delete {store.uri_of(_key(folder, epoch))} to take over at once",
        )


def _current(store: Store, folder: str) -> tuple[int, Holder] | None:
    keys = [key for key in store.list(folder) if _LEASE_KEY.search(key)]
    if not keys:
        return None
    return int(keys[-1].rsplit("/", 1)[1].removesuffix(".json")), _read(store, keys[-1])


def _read(store: Store, key: str) -> Holder:
    try:
        return _HOLDER.validate_python(store.read_json(key))
    except (ValidationError, UnreadableError) as error:
        raise UnreadableError(
            f"{store.uri_of(key)} is not a lease ({getattr(error, 'what', error)})",
            "The lease says which run writes the campaign",
            "If no run writes the campaign, delete this file; it names no data",
            key,
        ) from error


_LEASE_KEY = re.compile(r"/\d+\.json$")
_HOLDER = TypeAdapter(Holder)


def _key(folder: str, epoch: int) -> str:
    return f"{folder}/{epoch:08d}.json"


def _describe(holder: Holder) -> str:
    return f"flow run {holder.flow_run} (process {holder.pid} on {holder.host}) since {holder.since}"


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return socket.gethostname()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
