"""The pool: a fair queue in front of the slots of a few warm interpreters, and their replacement when they die.

Everything here happens on the event loop that opened the pool, so nothing is locked. A call costs the loop three
memory files, one message there and one message back; a waiting call costs an entry in a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass

from torl_core.config import SandboxConfig
from torl_core.errors import DataError, SandboxUnavailable
from torl_core.sandbox.call import Call, Files, tool_call
from torl_core.sandbox.cgroups import Groups
from torl_core.sandbox.inside.limits import CANCELLED, NOT_STARTED, Limits
from torl_core.sandbox.worker import Slot, Worker, WorkerError
from torl_core.types import ToolCall

log = logging.getLogger(__name__)

MAX_TIMEOUT_S = 3600.0
MAX_CODE_BYTES = 8 << 20
MAX_REPORT_BYTES = 16384
OVERDUE_S = 10.0
"""How long after its time limit a slot may stay silent before it is killed; the slot itself ends snippets in time."""
SWEEP_S = 1.0
LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the pool was opened, then what is there now."""

    executed: int = 0
    retried: int = 0
    cancelled: int = 0
    workers_replaced: int = 0
    slots_replaced: int = 0
    waiting: int = 0
    running: int = 0
    slots: int = 0


class Pool:
    """A Sandbox (torl_core/protocols.py) of local worker processes. Made by `open_sandbox`."""

    def __init__(self, config: SandboxConfig, limits: Limits, groups: Groups) -> None:
        self._config, self._limits, self._groups = config, limits, groups
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        self._idle: deque[Slot] = deque()
        self._suspects: set[Call] = set()
        self._slots: set[Slot] = set()
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = dict.fromkeys(("executed", "retried", "cancelled", "workers_replaced", "slots_replaced"), 0)
        self._closed = False

    async def open(self) -> None:
        """Raises WorkerError when any worker does not start."""
        starts = [self._start_worker() for _ in range(self._config.workers)]
        try:
            results = await asyncio.gather(*starts, return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        failures = [result for result in results if result is not None]
        if failures:
            await self.close()
            raise failures[0]
        self._spawn(self._sweep())

    @property
    def stats(self) -> Stats:
        running = sum(slot.call is not None for slot in self._slots)
        waiting = sum(not call.future.done() for call in self._queue)
        return Stats(**self._counts, waiting=waiting, running=running, slots=len(self._slots))

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        """Run `code` as a script in an interpreter of its own. Any number of calls may wait; they run in order.

        Raises DataError for a call that makes no sense, SandboxUnavailable when the sandbox itself failed.
        """
        limit_s = self._config.timeout_s if timeout_s is None else timeout_s
        check_call(code, limit_s)
        if asyncio.get_running_loop() is not self._loop:
            raise _unavailable("The sandbox was opened on another event loop", "open one on this loop", retryable=False)
        if self._closed:
            raise _unavailable("The sandbox is closed", "open another")
        call = Call(code, float(limit_s), self._loop.create_future(), time.monotonic())
        self._queue.append(call)
        self._dispatch()
        try:
            return await call.future
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    async def close(self) -> None:
        """End every worker and everything it runs; waiting calls get SandboxUnavailable."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for slot in self._slots:
            self._loop.remove_reader(slot.sock)
        running = [slot.call for slot in self._slots if slot.call is not None]
        self._fail([*running, *self._queue], "The sandbox was closed", "open another")
        self._queue.clear()
        self._idle.clear()
        self._slots.clear()
        workers, self._workers = self._workers, set()
        for worker in workers:
            self._loop.remove_reader(worker.channel)
        await asyncio.gather(*(worker.close() for worker in workers))
        await asyncio.to_thread(self._groups.close)

    # Dispatching

    def _dispatch(self) -> None:
        while self._idle and self._queue:
            if self._queue[0].future.done():
                self._queue.popleft()
                continue
            slot = self._free_slot(self._queue[0])
            if slot is None:
                return
            self._run(slot, self._queue.popleft())

    def _free_slot(self, call: Call) -> Slot | None:
        """A call that lost its slot has a worker to itself the next time: a snippet that ends its worker then ends
        nobody else's call with it, and nobody else's retries are used up."""
        self._suspects = {suspect for suspect in self._suspects if not suspect.future.done()}
        if not self._suspects:
            return self._idle.popleft()  # the one that has rested longest: others may still be renewing their /tmp
        for index, slot in enumerate(self._idle):
            beside = {other.call for other in slot.worker.slots if other.call is not None}
            if not (beside if call in self._suspects else beside & self._suspects):
                del self._idle[index]
                return slot
        return None

    def _run(self, slot: Slot, call: Call) -> None:
        call.attempts += 1
        call.dispatched_s = time.monotonic()
        try:
            files = Files(
                call.code.encode(errors="surrogatepass"), self._config.max_output_bytes, self._config.output_limit_bytes
            )
        except OSError as error:
            self._idle.append(slot)
            self._fail([call], f"No memory file for a snippet: {error.strerror}", "raise the limit on open files")
            return
        slot.deadline_s = call.dispatched_s + call.timeout_s + OVERDUE_S
        try:
            slot.run(call, files)
        except OSError:
            self._slot_lost(slot)

    def _abandon(self, call: Call) -> None:
        """Its task was cancelled: what waits is skipped later, what runs is killed and frees its slot."""
        self._counts["cancelled"] += 1
        for slot in self._slots:
            if slot.call is call:
                slot.cancel()

    def _on_answer(self, slot: Slot) -> None:
        try:
            outcome = slot.outcome()
        except BlockingIOError:
            return
        call, files = slot.call, slot.files
        if outcome is None or call is None or files is None:
            self._slot_lost(slot)
            return
        slot.call = slot.files = None
        try:
            if outcome.ending == NOT_STARTED:
                self._on_not_started(call, files.read(files.stderr, outcome.stderr_bytes)[0])
            elif not call.future.done() and outcome.ending != CANCELLED:
                self._counts["executed"] += 1
                call.future.set_result(tool_call(call, files, outcome, self._limits.jailed))
        finally:
            files.close()
        self._idle.append(slot)
        self._dispatch()

    def _on_not_started(self, call: Call, reason: str) -> None:
        """The jail could not be completed: never the snippet's doing."""
        log.warning("a snippet could not be started: %s", reason)
        if call.attempts > self._config.max_retries:
            self._fail([call], f"A snippet could not be started: {reason}", "see `torl doctor`")
        else:
            self._retry(call)

    def _retry(self, call: Call) -> None:
        """Elsewhere, before those that have not been tried; too many tries are the snippet's own doing."""
        if call.future.done():
            return
        if call.attempts > self._config.max_retries:
            self._counts["executed"] += 1
            call.future.set_result(_crash(call))
            return
        self._counts["retried"] += 1
        self._suspects.add(call)
        self._queue.appendleft(call)

    def _fail(self, calls: list[Call], what: str, remedy: str) -> None:
        for call in calls:
            if not call.future.done():
                call.future.set_exception(_unavailable(what, remedy))

    # Replacing what died

    async def _start_worker(self) -> None:
        worker = await Worker.start(self._limits, self._groups)
        self._workers.add(worker)
        self._loop.add_reader(worker.channel, self._worker_lost, worker)
        for _ in range(self._config.slots_per_worker):
            await self._add_slot(worker)

    async def _add_slot(self, worker: Worker) -> None:
        try:
            slot = await worker.open_slot()
        except OSError as error:
            raise WorkerError(worker.log() or str(error)) from error
        self._slots.add(slot)
        self._loop.add_reader(slot.sock, self._on_answer, slot)
        self._idle.append(slot)
        self._dispatch()

    def _slot_lost(self, slot: Slot) -> None:
        """Its call goes elsewhere, and the worker, unless it is gone too, makes another slot."""
        if slot not in self._slots:
            return
        self._forget(slot)
        if not self._closed and slot.worker in self._workers:
            self._counts["slots_replaced"] += 1
            self._spawn(self._replace_slot(slot.worker))
        self._dispatch()

    def _forget(self, slot: Slot) -> None:
        self._loop.remove_reader(slot.sock)
        self._slots.discard(slot)
        slot.worker.slots.discard(slot)
        with contextlib.suppress(ValueError):
            self._idle.remove(slot)
        call, slot.call = slot.call, None
        slot.kill()
        slot.close()
        if call is not None:
            self._retry(call)

    async def _replace_slot(self, worker: Worker) -> None:
        try:
            await self._add_slot(worker)
        except WorkerError:
            self._worker_lost(worker)

    def _worker_lost(self, worker: Worker) -> None:
        """A worker only speaks when it starts, so anything on its channel is its end."""
        if worker not in self._workers:
            return
        self._workers.discard(worker)
        self._loop.remove_reader(worker.channel)
        for slot in list(worker.slots):
            self._forget(slot)
        self._counts["workers_replaced"] += 1
        self._spawn(self._replace_worker(worker))
        self._dispatch()

    async def _replace_worker(self, worker: Worker) -> None:
        """Try until it works, ever more slowly. While no worker is left at all, calls fail instead of waiting."""
        await worker.close()
        pause_s = 0.1
        while True:
            try:
                await self._start_worker()
                return
            except WorkerError as failure:
                log.warning("a sandbox worker did not start: %s", failure)
                if not self._workers:
                    self._fail(list(self._queue), f"No sandbox worker starts: {failure}", "see `torl doctor`")
                    self._queue.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_BACKOFF_S)

    async def _sweep(self) -> None:
        """Slots that neither answered nor died long after their time are killed."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await asyncio.sleep(0)  # answers that piled up while the loop was busy elsewhere come first
            now = time.monotonic()
            for slot in self._slots:
                if slot.call is not None and now > slot.deadline_s:
                    slot.kill()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def check_call(code: object, timeout_s: float) -> float:
    """The time limit of a call that makes sense. Raises DataError for another."""
    if not isinstance(code, str):
        raise DataError(f"code is {type(code).__name__}: {code!r:.60}", "Code is text", "pass a str")
    if len(code) > MAX_CODE_BYTES:
        raise DataError(f"code has {len(code)} characters", f"The most is {MAX_CODE_BYTES}", "pass less code")
    number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
    if not (number and 0 < timeout_s <= MAX_TIMEOUT_S):
        rule = f"A time limit is a number of seconds above 0 and at most {MAX_TIMEOUT_S:.0f}"
        raise DataError(f"timeout_s is {timeout_s!r:.60}", rule, "pass such a number or nothing")
    return timeout_s


def _crash(call: Call) -> ToolCall:
    """For a snippet that took its worker with it every time."""
    return ToolCall(
        code=call.code,
        status="crash",
        stdout="",
        stderr=f"The interpreter died {call.attempts} times while running this code.",
        duration_s=time.monotonic() - call.dispatched_s,
        queued_s=call.dispatched_s - call.created_s,
    )


def _unavailable(what: str, remedy: str, retryable: bool | None = None) -> SandboxUnavailable:
    rule = "A failure of the sandbox is never a result of the code"
    return SandboxUnavailable(what, rule, remedy, retryable=retryable)
