"""Grading in real worker processes: verdicts, wall limit, death and replacement, caching, threads."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from torl_core.errors import GraderUnavailable
from torl_core.grading import Grader, open_grader
from torl_core.types import Grade

SLOW_GOLD = ", ".join(rf"\sum_{{k=1}}^{{999}} 2\sin(kx+{n})\cos(kx+{n})" for n in range(9))
SLOW_ANSWER = ", ".join(rf"\sum_{{k=1}}^{{999}} \sin(2xk+{2 * n})" for n in range(9))
"""A pair whose every item is a sum of a thousand terms, evaluated at many points: seconds of work."""


def graded(job: Callable[[Grader], Awaitable[None]], workers: int = 1, wall_limit_s: float = 3.0) -> None:
    async def main() -> None:
        grader = await open_grader(workers, wall_limit_s)
        try:
            await job(grader)
        finally:
            await grader.close()

    asyncio.run(main())
    assert not children()


def children() -> list[psutil.Process]:
    """The grading workers alive: one that was killed is a zombie, without a command line, until the loop reaps it."""

    def is_worker(process: psutil.Process) -> bool:
        try:
            return "torl_core.grading.child" in " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            return False

    return [process for process in psutil.Process().children() if is_worker(process)]


async def suspended_job(grader: Grader) -> tuple[asyncio.Task[Grade], psutil.Process]:
    """A job in flight on a worker that has been stopped, so that the test decides what becomes of it."""
    (process,) = children()
    process.suspend()
    task = asyncio.create_task(grader.grade(r"\sqrt{8}", r"\boxed{2\sqrt{2}}"))
    await asyncio.sleep(0.2)
    return task, process


def test_verdicts() -> None:
    async def job(grader: Grader) -> None:
        assert await grader.grade(r"\frac12", r"\boxed{0.5}") == Grade(True, "0.5", "value: quantity equal to quantity")
        assert (await grader.grade(r"\frac12", r"\boxed{0.6}")).correct is False
        assert await grader.grade("5", "five") == Grade(False, None, "no closed \\boxed{} in the prose")
        assert (await grader.grade("5", r"\boxed{ }")).correct is False
        assert (await grader.grade("5", r"\boxed{4} and \boxed{ 5 }")) == Grade(True, "5", "spelling: identical")

    graded(job)


def test_many_in_flight_in_any_order() -> None:
    async def job(grader: Grader) -> None:
        grades = await asyncio.gather(*(grader.grade(rf"\sqrt{{{n * n}}}", rf"\boxed{{{n % 50}}}") for n in range(100)))
        assert [grade.correct for grade in grades] == [n < 50 for n in range(100)]

    graded(job, workers=2)


def test_killed_in_the_middle_of_a_job_is_retried_on_a_fresh_worker() -> None:
    async def job(grader: Grader) -> None:
        task, process = await suspended_job(grader)
        process.send_signal(signal.SIGKILL)
        assert (await task).correct is True
        assert (await grader.grade(r"\sqrt{18}", r"\boxed{3\sqrt{2}}")).correct is True
        assert process.pid not in [child.pid for child in children()]

    graded(job)


def test_two_deaths_leave_the_verdict_open() -> None:
    async def job(grader: Grader) -> None:
        task = asyncio.create_task(grader.grade(SLOW_GOLD, rf"\boxed{{{SLOW_ANSWER}}}"))
        killed: list[int] = []
        for _ in range(2):
            while not (fresh := [worker.process for worker in grader._alive if worker.process.pid not in killed]):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            killed.append(fresh[0].pid)
            fresh[0].kill()
        assert await task == Grade(None, SLOW_ANSWER, "two grading workers died on this answer")
        assert (await grader.grade(r"\sqrt{18}", r"\boxed{3\sqrt{2}}")).correct is True

    graded(job, wall_limit_s=60)


def test_a_replacement_that_cannot_start_is_unavailable_and_the_next_job_tries_again() -> None:
    async def job(grader: Grader) -> None:
        task, process = await suspended_job(grader)
        process.send_signal(signal.SIGKILL)
        while not (fresh := [child for child in children() if child.pid != process.pid]):
            await asyncio.sleep(0.01)
        fresh[0].send_signal(signal.SIGKILL)
        with pytest.raises(GraderUnavailable, match="before it was ready"):
            await task
        assert (await grader.grade(r"\sqrt{18}", r"\boxed{3\sqrt{2}}")).correct is True

    graded(job)


def test_wall_limit_leaves_the_verdict_open_and_others_go_on() -> None:
    async def job(grader: Grader) -> None:
        start = time.perf_counter()
        hostile = asyncio.create_task(grader.grade(SLOW_GOLD, rf"\boxed{{{SLOW_ANSWER}}}"))
        await asyncio.sleep(0.1)
        others = await asyncio.gather(
            *(grader.grade(rf"\sqrt{{{n * n * 2}}}", rf"\boxed{{{n}\sqrt{{2}}}}") for n in range(2, 30))
        )
        assert all(grade.correct for grade in others)
        assert not hostile.done()
        grade = await hostile
        assert grade.correct is None
        assert "1.5 s" in grade.reason
        assert 1.4 < time.perf_counter() - start < 10
        assert (await grader.grade(r"\sqrt{2}", r"\boxed{2^{1/2}}")).correct is True

    graded(job, workers=2, wall_limit_s=1.5)


def test_equal_jobs_are_judged_once() -> None:
    async def job(grader: Grader) -> None:
        task, process = await suspended_job(grader)
        twin = asyncio.create_task(grader.grade(r"\sqrt{8}", r"again \boxed{2\sqrt{2}}"))
        process.resume()
        assert (await task).correct is (await twin).correct is True
        process.suspend()
        assert (await asyncio.wait_for(grader.grade(r"\sqrt{8}", r"\boxed{2\sqrt{2}}"), 1)).correct is True
        process.resume()

    graded(job)


def test_cancelling_one_waiter_does_not_take_the_verdict_from_another() -> None:
    async def job(grader: Grader) -> None:
        task, process = await suspended_job(grader)
        twin = asyncio.create_task(grader.grade(r"\sqrt{8}", r"\boxed{2\sqrt{2}}"))
        await asyncio.sleep(0)
        task.cancel()
        process.resume()
        assert (await twin).correct is True

    graded(job)


def test_works_outside_the_main_thread() -> None:
    seen: list[bool | None] = []

    async def job(grader: Grader) -> None:
        seen.append((await grader.grade(r"\sqrt{8}", r"\boxed{2\sqrt{2}}")).correct)
        seen.append((await grader.grade(SLOW_GOLD, rf"\boxed{{{SLOW_ANSWER}}}")).correct)

    thread = threading.Thread(target=graded, args=(job, 1, 1.0))
    thread.start()
    thread.join(60)
    assert seen == [True, None]


def test_a_worker_that_cannot_start_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("torl_core.grading.workers._START", "raise SystemExit(3)")
        with pytest.raises(GraderUnavailable, match="before it was ready"):
            await open_grader(1)

    asyncio.run(main())
    assert not children()


def test_closed_means_closed() -> None:
    async def main() -> None:
        grader = await open_grader(1)
        await grader.close()
        await grader.close()
        with pytest.raises(GraderUnavailable, match="closed"):
            await grader.grade(r"\sqrt{8}", r"\boxed{2\sqrt{2}}")

    asyncio.run(main())


def test_closing_cancels_what_is_still_awaited() -> None:
    async def main() -> None:
        grader = await open_grader(1)
        task, _ = await suspended_job(grader)
        await grader.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not children()


def test_workers_die_with_their_parent() -> None:
    program = (
        "import asyncio, time\nfrom torl_core.grading import open_grader\n"
        "async def main():\n    await open_grader(2)\n    print('up', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root, env={**os.environ})
    assert parent.stdout
    assert parent.stdout.readline() == b"up\n"
    workers = psutil.Process(parent.pid).children()
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_workers_inherit_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORL_TEST_SECRET", "42")

    async def job(_: Grader) -> None:
        (process,) = children()
        assert "TORL_TEST_SECRET" not in process.environ()

    graded(job)
