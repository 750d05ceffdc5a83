# ruff: noqa: E501 (one snippet a line reads better than a wrapped one)
"""What the gvisor backend is for: hostile snippets in it, and what differs from the other jail.

The conformance and session suites run on it as well. Of the hostile set these are the telling cases, all refusals and
all system calls; several share a test, because a snippet costs a tenth of a second here.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest
from pydantic import ValidationError

from tests.torl_core.sandbox.conftest import JAILED
from tests.torl_core.sandbox.test_failures import ROOT, tree, wait_until
from tests.torl_core.sandbox.test_hostile import CALLS, ENDS, NEXT, NEXT_OUTPUT, REFUSED
from torl_core.config import SandboxConfig
from torl_core.errors import SandboxCannotIsolate
from torl_core.sandbox import check_gvisor, isolation, open_pool, open_sandbox, opening

GVISOR = JAILED.model_copy(update={"backend": "gvisor"})
SHOWN_EMPTY = ("/sys", "/run")
"""There, with nothing in them."""
TELLING = (
    "fork bomb that stops at the limit", "thread bomb", "memory bomb", "deaf to signals", "endless output", "a huge file",
    "filling /dev/shm", "a deep tree", "a segmentation fault", "closed standard streams", "daemons left behind", "kill -1",
    "kill the process group", "poisoned modules", "a traceback of megabytes", "memory outside of any address space",
    "a device without end", "a child that kills its parent", "a deaf child that outlives it",
)  # fmt: skip


@pytest.fixture
def untouched(gvisor):
    """The worker and its slots are the same afterwards, and the next snippets find nothing."""
    stats = gvisor.pool.stats
    yield
    for _ in range(2):
        after = gvisor.execute(NEXT, timeout_s=10)
        assert (after.status, after.stdout, after.stderr) == ("ok", NEXT_OUTPUT, "")
    now = gvisor.pool.stats
    assert (now.slots, now.slots_replaced, now.workers_replaced) == (2, stats.slots_replaced, stats.workers_replaced)


@pytest.mark.slow
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("code", "statuses"), [ENDS[name] for name in TELLING], ids=TELLING)
def test_it_ends(gvisor, code, statuses):
    call = gvisor.execute(code, timeout_s=1.5 if "timeout" in statuses else 15)
    assert call.status in statuses, call


@pytest.mark.slow
@pytest.mark.usefixtures("untouched")
def test_all_of_it_is_refused(gvisor):
    async def work():
        return await asyncio.gather(*(gvisor.pool.execute(code, 60) for code in REFUSED.values()))

    calls = dict(zip(REFUSED, gvisor.run(work()), strict=True))
    ended_well = {name: call for name, call in calls.items() if call.status != "error" or "rror" not in call.stderr}
    assert ended_well.keys() == set(SHOWN_EMPTY), ended_well
    for folder in SHOWN_EMPTY:
        assert gvisor.execute(f"import os\nprint(os.listdir({folder!r}))").stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.usefixtures("untouched")
def test_every_system_call_is_refused(gvisor):
    code = "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n" + "".join(
        f"print({name!r}, c.syscall({number}, {arguments}), ctypes.get_errno())\n"
        for name, (number, arguments) in CALLS.items()
    )
    expected = [f"{name} -1 {38 if name == 'clone3' else 1}" for name in CALLS]
    assert gvisor.execute(code).stdout.splitlines() == expected


@pytest.mark.slow
def test_the_kernel_and_the_identity_inside(gvisor):
    code = (
        "import ctypes, os\nc = ctypes.CDLL(None)\nprint(os.uname().release, os.uname().nodename, os.getpid())\n"
        "print(65534 - 9 < os.getuid() == os.getgid() <= 65534, os.getgroups(), os.listdir('/proc'), sorted(os.listdir('/dev/net')))\n"
        "print(c.prctl(21, 0, 0, 0, 0), c.prctl(39, 0, 0, 0, 0))\n"
        "h = b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0'; d = ctypes.create_string_buffer(24)\n"
        "print(c.syscall(125, h, d), d.raw == bytes(24), sum(c.prctl(23, i, 0, 0, 0) for i in range(38)))"
    )
    lines = gvisor.execute(code).stdout.splitlines()
    assert lines == ["4.4.0 sandbox 1", "True [] [] []", "2 1", "0 True 0"]


@pytest.mark.slow
@pytest.mark.usefixtures("gvisor")
def test_a_snippet_that_takes_the_worker_along_is_a_crash_and_ends_nobody_elses_call(monkeypatch):
    """Processes that together use more than the worker may: the kernel ends all of gVisor, which is one process."""
    monkeypatch.setattr(opening, "GVISOR_PROCESS_BYTES", 0)  # sooner there
    bomb = (
        "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (250 << 20); time.sleep(60)\n"
        "time.sleep(60)"
    )

    before = set(tree())

    async def work():
        pool = await open_pool(GVISOR.model_copy(update={"max_retries": 1}))
        folders = [folder for folder, _, _ in pool._groups._folders]
        try:
            if "memory" not in pool._groups.controllers:
                pytest.skip("no memory controller here")
            hostile = asyncio.create_task(pool.execute(bomb, 30))
            others = [pool.execute(f"import time\ntime.sleep(0.2)\nprint({i})") for i in range(20)]
            return await hostile, await asyncio.gather(*others), folders
        finally:
            await pool.close()

    hostile, others, folders = asyncio.run(work())
    assert hostile.status == "crash"
    assert [(call.status, call.stdout) for call in others] == [("ok", f"{i}\n") for i in range(20)]
    assert wait_until(lambda: set(tree()) <= before)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.slow
def test_killed_slots_are_replaced_and_lose_no_call(gvisor):
    pool = gvisor.pool
    slots, replaced = set(pool._slots), pool.stats.slots_replaced

    async def work():
        call = asyncio.create_task(pool.execute("import time\ntime.sleep(0.8)\nprint('done')"))
        await asyncio.sleep(0.3)
        for slot in slots:
            slot.kill()
        result = await call
        async with asyncio.timeout(30):
            while pool.stats.slots < 2:
                await asyncio.sleep(0.05)
        return result

    assert gvisor.run(work()).stdout == "done\n"
    assert pool.stats.slots_replaced == replaced + 2
    assert not pool._slots & slots


PARENT = """
import asyncio
from torl_core.config import SandboxConfig
from torl_core.sandbox import open_pool

async def main():
    pool = await open_pool(SandboxConfig(backend="gvisor", workers=1, slots_per_worker=1))
    call = asyncio.create_task(pool.execute("while True: pass", 60))
    await asyncio.sleep(0.5)
    print("up", flush=True)
    await call

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("gvisor")
def test_kill_9_of_the_parent_leaves_no_process():
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        children = tree(psutil.Process(process.pid))
        assert len(children) >= 3
        process.send_signal(signal.SIGKILL)
    gone = [p for p in children if not wait_until(lambda p=p: not p.is_running() or p.status() == psutil.STATUS_ZOMBIE)]
    assert gone == []


def test_without_runsc_the_config_is_refused(monkeypatch):
    monkeypatch.setattr(isolation.gvisor, "program", lambda: None)
    with pytest.raises(SandboxCannotIsolate, match="apt-get install runsc"):
        asyncio.run(open_sandbox(GVISOR))


def test_a_runsc_that_does_not_start_is_refused(tmp_path, monkeypatch):
    broken = tmp_path / "runsc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(isolation.gvisor, "program", lambda: str(broken))
    with pytest.raises(SandboxCannotIsolate, match=r"does not start.*sandbox\.backend to local"):
        asyncio.run(open_sandbox(GVISOR))


def test_the_check_names_a_remedy_or_passes():
    for check in check_gvisor():
        assert check.ok or check.remedy, check


def test_gvisor_and_no_isolation_exclude_each_other():
    with pytest.raises(ValidationError, match="leave out the flag"):
        SandboxConfig(backend="gvisor", dangerously_run_model_code_without_isolation=True)
