"""The sandbox's own failures: whatever dies, no call is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from torl_core.config import SandboxConfig
from torl_core.errors import SandboxCannotIsolate, SandboxUnavailable
from torl_core.sandbox import check_isolation, check_worker, isolation, jail, open_pool, seccomp

ROOT = Path(__file__).parents[3]
SMALL = SandboxConfig(workers=1, slots_per_worker=2, timeout_s=10.0, max_retries=2)


def tree(process: psutil.Process | None = None) -> list[psutil.Process]:
    """Living descendants: the jail's processes among them."""
    found = (process or psutil.Process()).children(recursive=True)
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_until(condition, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def settled(measure):
    """What `measure` says once it says the same twice: slots fork the next snippet's process after their answer."""
    now, earlier = measure(), None
    while now != earlier:
        time.sleep(0.3)
        now, earlier = measure(), now
    return now


def test_a_killed_slot_loses_no_call_and_is_replaced():
    async def work():
        pool = await open_pool(SMALL)
        call = asyncio.create_task(pool.execute("import time\ntime.sleep(0.8)\nprint('done')"))
        await asyncio.sleep(0.3)
        (busy,) = [slot for slot in pool._slots if slot.call is not None]
        signal.pidfd_send_signal(busy.pidfd, signal.SIGKILL)
        result = await call
        await asyncio.sleep(0.5)
        stats = pool.stats
        await pool.close()
        return result, stats

    result, stats = asyncio.run(work())
    assert (result.status, result.stdout) == ("ok", "done\n")
    assert (stats.executed, stats.retried, stats.slots_replaced, stats.slots) == (1, 1, 1, 2)


def test_a_killed_waiting_snippet_loses_no_call():
    """A slot forks the next snippet's process ahead. The machine, short of memory, may take it before its call."""

    async def work():
        pool = await open_pool(SMALL)
        for _ in range(2):
            await pool.execute("pass")  # in each of the slots
        (worker,) = pool._workers
        inside = psutil.Process(worker.process.pid)
        settled(lambda: len(tree(inside)))
        waiting = [p for p in tree(inside) if not p.children()]
        for process in waiting:
            process.kill()
        result = await pool.execute("print('done')")
        again = [(await pool.execute(f"print({i})")).stdout for i in range(4)]
        stats = pool.stats
        await pool.close()
        return waiting, result, again, stats

    waiting, result, again, stats = asyncio.run(work())
    assert len(waiting) == 2
    assert (result.status, result.stdout) == ("ok", "done\n")
    assert again == ["0\n", "1\n", "2\n", "3\n"]
    assert (stats.executed, stats.slots, stats.slots_replaced) == (7, 2, 0)
    assert 1 <= stats.retried <= 2


@pytest.mark.parametrize("code", ["while True: pass", "pass"])
def test_a_cancellation_at_any_moment_ends_its_call_and_no_other(code):
    """Before the call began, while it runs, when its answer is on the way."""

    async def work():
        pool = await open_pool(SMALL.model_copy(update={"slots_per_worker": 1}))
        await pool.execute("pass")
        (worker,) = pool._workers
        outputs, before = [], settled(lambda: len(tree(psutil.Process(worker.process.pid))))
        for i in range(80):
            call = asyncio.create_task(pool.execute(code))
            await asyncio.sleep(0)
            time.sleep(i / 4000)  # the event loop is busy: it cancels before it sees an answer
            call.cancel()
            outputs.append((await pool.execute(f"print({i})")).stdout)
        after = settled(lambda: len(tree(psutil.Process(worker.process.pid))))
        busy = max(p.cpu_percent(0.2) for p in tree(psutil.Process(worker.process.pid)))
        await pool.close()
        return outputs, before, after, busy

    outputs, before, after, busy = asyncio.run(work())
    assert outputs == [f"{i}\n" for i in range(80)]
    assert after == before
    assert busy < 50


def test_a_killed_worker_loses_no_call_and_is_replaced():
    async def work():
        pool = await open_pool(SMALL)
        calls = [asyncio.create_task(pool.execute(f"import time\ntime.sleep(0.5)\nprint({i})")) for i in range(5)]
        await asyncio.sleep(0.3)
        (worker,) = pool._workers
        worker.process.kill()
        results = await asyncio.gather(*calls)
        stats = pool.stats
        await pool.close()
        return results, stats

    results, stats = asyncio.run(work())
    assert [r.stdout for r in results] == [f"{i}\n" for i in range(5)]
    assert (stats.executed, stats.retried, stats.workers_replaced, stats.slots) == (5, 2, 1, 2)


def test_a_snippet_that_takes_its_worker_along_every_time_is_a_crash():
    async def work():
        pool = await open_pool(SMALL)
        call = asyncio.create_task(pool.execute("import time\ntime.sleep(60)", 100))
        while not call.done():
            for slot in [slot for slot in pool._slots if slot.call is not None]:
                signal.pidfd_send_signal(slot.pidfd, signal.SIGKILL)
            await asyncio.sleep(0.05)
        following = await pool.execute("print('next')")
        stats = pool.stats
        await pool.close()
        return call.result(), following, stats

    result, following, stats = asyncio.run(work())
    assert result.status == "crash"
    assert "died 3 times" in result.stderr
    assert stats.retried == 2
    assert following.stdout == "next\n"


def test_a_jail_that_cannot_be_completed_runs_nothing(monkeypatch):
    """The kernel refuses this filter."""
    monkeypatch.setattr(seccomp, "filter_program", lambda: bytes(8))

    async def work():
        pool = await open_pool(SMALL)
        with pytest.raises(SandboxUnavailable, match=r"could not be started: OSError.*prctl: Invalid argument"):
            await pool.execute("print('ran')")
        stats = pool.stats
        await pool.close()
        return stats

    stats = asyncio.run(work())
    assert (stats.executed, stats.retried) == (0, SMALL.max_retries)


def test_when_no_worker_starts_any_more_calls_are_unavailable(monkeypatch):
    async def work():
        pool = await open_pool(SMALL)
        monkeypatch.setattr(jail, "bubblewrap", lambda: "/nonexistent/bwrap")
        (worker,) = pool._workers
        worker.process.kill()
        with pytest.raises(SandboxUnavailable, match="No sandbox worker starts"):
            await pool.execute("print(1)")
        monkeypatch.undo()
        recovered = await pool.execute("print('again')")
        await pool.close()
        return recovered

    assert asyncio.run(work()).stdout == "again\n"


def test_close_leaves_nothing_and_fails_what_waits():
    gc.collect()  # else descriptors of earlier tests are closed meanwhile
    before, fds = set(tree()), len(os.listdir("/proc/self/fd"))

    async def work():
        pool = await open_pool(SMALL)
        assert len(tree()) > len(before)
        calls = [asyncio.create_task(pool.execute("while True: pass")) for _ in range(5)]
        await asyncio.sleep(0.2)
        await pool.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, SandboxUnavailable) for result in results)
        with pytest.raises(SandboxUnavailable, match="closed"):
            await pool.execute("print(1)")
        await pool.close()

    asyncio.run(work())
    assert wait_until(lambda: set(tree()) == before)
    assert len(os.listdir("/proc/self/fd")) == fds


PARENT = """
import asyncio, sys
from torl_core.config import SandboxConfig
from torl_core.sandbox import open_pool

async def main():
    options = dict(dangerously_run_model_code_without_isolation={unjailed})
    pool = await open_pool(SandboxConfig(workers=1, slots_per_worker=2, **options))
    calls = [asyncio.create_task(pool.execute("import os\\nos.fork()\\nwhile True: pass", 60)) for _ in range(2)]
    await asyncio.sleep(0.5)
    print("up", flush=True)
    await asyncio.gather(*calls)

asyncio.run(main())
"""


@pytest.mark.parametrize("unjailed", [False, True], ids=["jailed", "unjailed"])
def test_kill_9_of_the_parent_leaves_no_process(unjailed):
    folders = set(Path("/tmp").glob("torl-snippet-*"))
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(unjailed=unjailed)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        children = tree(psutil.Process(process.pid))
        assert len(children) >= 6
    finally:
        process.kill()
        process.wait()
    gone = [p for p in children if not wait_until(lambda p=p: not p.is_running() or p.status() == psutil.STATUS_ZOMBIE)]
    assert gone == []
    assert wait_until(lambda: set(Path("/tmp").glob("torl-snippet-*")) <= folders)


def test_nothing_leaks_over_many_calls(jailed):
    async def work(count):
        codes = [
            "print(1)",
            "1/0",
            "import os\nos.fork()",
            "open('f', 'w').write('x')",
            "while True: print('y' * 9999)",
        ]
        await asyncio.gather(*(jailed.pool.execute(codes[i % len(codes)]) for i in range(count)))

    def held():
        inside = tree()
        return len(inside), sum(p.num_fds() for p in inside), len(os.listdir("/proc/self/fd"))

    jailed.run(work(20))
    before = settled(held)
    jailed.run(work(200))
    assert wait_until(lambda: held() == before), (before, held())


@pytest.mark.slow
def test_thousands_of_calls_may_wait_and_be_cancelled(jailed):
    async def work():
        tasks = [asyncio.create_task(jailed.pool.execute(f"print({i})")) for i in range(5000)]
        await asyncio.sleep(0.2)
        for task in tasks[100:]:
            task.cancel()
        results = await asyncio.gather(*tasks[:100])
        await asyncio.gather(*tasks[100:], return_exceptions=True)
        return results

    assert [r.stdout for r in jailed.run(work())] == [f"{i}\n" for i in range(100)]
    assert jailed.pool.stats.waiting == 0
    assert jailed.execute("print('on')").stdout == "on\n"


def test_a_pool_belongs_to_the_loop_that_opened_it(jailed):
    with pytest.raises(SandboxUnavailable, match="another event loop"):
        asyncio.run(jailed.pool.execute("print(1)"))


def test_no_isolation_no_run(monkeypatch):
    monkeypatch.setattr(isolation.shutil, "which", lambda _: None)
    with pytest.raises(SandboxCannotIsolate, match="apt-get install bubblewrap"):
        asyncio.run(open_pool(SMALL))


def test_every_check_passes_here_or_names_a_remedy():
    for check in check_isolation():
        assert check.ok or check.remedy, check


def test_a_worker_is_started_and_asked_once():
    check = check_worker()
    assert check.ok, check
    assert " 42; started in " in check.detail


REACHABLE = "import os, sys; os.stat(sys._base_executable)"  # setpriv can start what its user cannot reach


def _python_for_everybody() -> str | None:
    """An interpreter of this version that an ordinary user may run; pyenv's in /root is not one."""
    candidates = [Path(sys.base_prefix) / "bin" / "python3", Path(f"/usr/bin/python3.{sys.version_info.minor}")]
    for path in candidates:
        words = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", str(path), "-c", REACHABLE]
        if path.exists() and subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return str(path)
    return None


ORDINARY = """
import asyncio, json
from torl_core.config import SandboxConfig
from torl_core.sandbox import check_isolation, open_pool

async def main():
    pool = await open_pool(SandboxConfig(workers=1, slots_per_worker=1, max_processes=16))
    codes = [
        "import os, sys\\nprint(os.getuid(), os.getpid(), os.listdir('/tmp'), sys.version_info[:2])",
        "open('/tmp/x', 'w').write('x')\\nprint(open('/tmp/x').read())",
        "import os\\nwhile True: os.fork()",
        "from sympy import *\\nx = symbols('x')\\nprint(solve(x**2 - 4, x))",
        "import socket\\nsocket.socket()",
        "print(open('/etc/passwd').read())",
        "import os, time\\nos.fork()\\ntime.sleep(9)",
        "import os\\nprint(os.listdir('/tmp'))",
    ]
    calls = [await pool.execute(code, 1) for code in codes]
    print(json.dumps([[c.status, c.stdout, c.stderr[-60:]] for c in calls]))
    await pool.close()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to become somebody else")
def test_as_an_ordinary_user():
    python = _python_for_everybody()
    if python is None:
        pytest.skip("no interpreter that an ordinary user may run")
    site = Path(pytest.__file__).parents[1]
    words = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", python, "-B", "-c", ORDINARY]
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    version = f"({sys.version_info[0]}, {sys.version_info[1]})"
    assert calls[0][:2] == ["ok", f"65534 1 [] {version}\n"]
    assert calls[1][:2] == ["ok", "x\n"]
    assert calls[2][0] in ("error", "timeout")
    assert calls[3][:2] == ["ok", "[-2, 2]\n"]
    assert calls[4][0] == "error"
    assert "Operation not permitted" in calls[4][2]
    assert "No such file" in calls[5][2]
    assert calls[6][0] == "timeout"
    assert calls[7][:2] == ["ok", "[]\n"]
