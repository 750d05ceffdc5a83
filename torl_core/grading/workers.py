"""Grading in processes that can be killed. The wall limit is the parent's: SIGKILL and a new process, no signal inside.

A worker is a child started by exec with a clean environment. It reads one JSON line a job ({gold, answer}) and writes
one a verdict ({correct, reason}). What it is sent has passed the guards of `equivalence.quick`, which the parent runs
itself. A worker dies with the thread that started it, the one of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import OrderedDict
from pathlib import Path

from torl_core.errors import GraderUnavailable
from torl_core.grading.equivalence import quick
from torl_core.grading.extract import last_boxed
from torl_core.launch import tied
from torl_core.types import Grade

START_LIMIT_S = 60.0
CACHE_ENTRIES = 100_000
_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from torl_core.grading.child import main; main(int(sys.argv[2]))"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class _WorkerDiedError(Exception):
    """The process ended in the middle of a job."""


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, memory_bytes: int) -> _Worker:
        """Raises GraderUnavailable when the process does not report itself ready."""
        command = [sys.executable, "-I", "-c", _START, str(_ROOT), str(memory_bytes)]
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *tied(command), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C in a terminal is the parent's to hear
            )  # fmt: skip
        except OSError as error:
            raise _unavailable(f"starting {sys.executable} failed: {error}") from error
        worker = cls(process)
        try:
            line = await asyncio.wait_for(worker._line(), START_LIMIT_S)
        except (_WorkerDiedError, TimeoutError) as error:
            await worker.kill()
            raise _unavailable(f"a grading worker exited with {process.returncode} before it was ready") from error
        except asyncio.CancelledError:
            await worker.kill()
            raise
        assert line == b"ready\n", line
        return worker

    async def judge(self, gold: str, answer: str) -> tuple[bool, str]:
        assert self.process.stdin
        job = json.dumps({"gold": gold, "answer": answer})
        try:
            self.process.stdin.write(job.encode() + b"\n")
            await self.process.stdin.drain()
        except ConnectionError as error:
            raise _WorkerDiedError from error
        verdict = json.loads(await self._line())
        return bool(verdict["correct"]), str(verdict["reason"])

    async def _line(self) -> bytes:
        assert self.process.stdout
        line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise _WorkerDiedError
        return line

    async def kill(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


def _unavailable(what: str) -> GraderUnavailable:
    return GraderUnavailable(
        what,
        "answers are graded in worker processes only, so that a hostile one can be killed",
        "run `torl doctor`, and look whether this machine is out of memory or processes",
    )


class Grader:
    """Grades answers, any number in flight on the event loop that opened it. Made by `open_grader`."""

    def __init__(self, workers: int, wall_limit_s: float, memory_bytes: int) -> None:
        self._wall_limit_s = wall_limit_s
        self._memory_bytes = memory_bytes
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()
        self._alive: set[_Worker] = set()
        self._verdicts: OrderedDict[tuple[str, str], asyncio.Task[Grade]] = OrderedDict()
        self._closed = False
        for _ in range(workers):
            self._idle.put_nowait(None)

    async def grade(self, gold: str, prose: str) -> Grade:
        """The verdict on the last box of `prose`, the model-written text outside code and output blocks.

        `correct` is None when the wall limit passed or the job took two workers down. Raises GraderUnavailable.
        """
        answer = last_boxed(prose)
        return quick(gold, answer) or await self._cached(gold, (answer or "").strip())

    async def _cached(self, gold: str, answer: str) -> Grade:
        """One job for equal pairs, in flight or done; a verdict that stayed open is not kept."""
        if self._closed:
            raise _unavailable("the grader is closed")
        key = (gold, answer)
        task = self._verdicts.get(key)
        if task is None:
            task = self._verdicts[key] = asyncio.create_task(self._judge(gold, answer))
            task.add_done_callback(lambda done: self._forget_unless_decided(key, done))
        self._verdicts.move_to_end(key)
        if len(self._verdicts) > CACHE_ENTRIES and next(iter(self._verdicts.values())).done():
            self._verdicts.popitem(last=False)
        return await asyncio.shield(task)

    def _forget_unless_decided(self, key: tuple[str, str], task: asyncio.Task[Grade]) -> None:
        if task.cancelled() or task.exception() or task.result().correct is None:
            self._verdicts.pop(key, None)

    async def _judge(self, gold: str, answer: str) -> Grade:
        for _ in range(2):
            worker = await self._idle.get()
            try:
                worker = worker or await self._started()
                correct, reason = await asyncio.wait_for(worker.judge(gold, answer), self._wall_limit_s)
            except TimeoutError:
                await self._ended(worker)
                worker = None
                return Grade(None, answer, f"not judged within {self._wall_limit_s:g} s")
            except _WorkerDiedError:
                await self._ended(worker)
                worker = None
            except BaseException:
                await self._ended(worker)
                worker = None
                raise
            else:
                return Grade(correct, answer, reason)
            finally:
                self._idle.put_nowait(worker)
        return Grade(None, answer, "two grading workers died on this answer")

    async def _started(self) -> _Worker:
        worker = await _Worker.start(self._memory_bytes)
        self._alive.add(worker)
        return worker

    async def _ended(self, worker: _Worker | None) -> None:
        """Kills; the place in the queue is then None, and whoever takes it starts a fresh worker."""
        if worker:
            self._alive.discard(worker)
            await worker.kill()

    async def warm(self) -> None:
        """Start every worker now. Raises GraderUnavailable."""
        places = self._idle.qsize()
        taken = [await self._idle.get() for _ in range(places)]
        started = await asyncio.gather(*(self._started() for _ in taken), return_exceptions=True)
        for worker in started:
            self._idle.put_nowait(worker if isinstance(worker, _Worker) else None)
        for worker in started:
            if isinstance(worker, BaseException):
                raise worker

    async def close(self) -> None:
        """Kill the workers; verdicts still awaited are cancelled. May be called twice."""
        self._closed = True
        running = [task for task in self._verdicts.values() if not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._alive))
        self._alive.clear()


async def open_grader(workers: int = 2, wall_limit_s: float = 3.0, memory_bytes: int = 2 << 30) -> Grader:
    """A Grader bound to the running event loop, its workers started. Close it. Raises GraderUnavailable."""
    grader = Grader(workers, wall_limit_s, memory_bytes)
    try:
        await grader.warm()
    except BaseException:
        await grader.close()
        raise
    return grader
