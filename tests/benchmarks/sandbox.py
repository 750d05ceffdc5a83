"""What a sandboxed snippet costs: `python tests/benchmarks/sandbox.py` prints Markdown tables, in under a minute.

With `--soak N`, only a soak of N snippets, and what is held before and after.

Compared with a `subprocess` per snippet (same interpreter, no isolation) and with a bare fork, run and exit of the same
warm interpreter (no isolation, no limits, no output kept): the floor under any fork server.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from torl_core.config import SandboxConfig
from torl_core.sandbox import Pool, open_pool

WAITING = 16
SNIPPETS = {
    "print(1+1)": "print(1+1)",
    "sympy solve": "from sympy import *\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))",
    "numpy": "import numpy as np\na = np.arange(10000.0).reshape(100, 100)\nprint((a @ a).sum())",
    "error": "def f(x):\n    return 1 / x\nf(0)",
}


def _cpu_s() -> float:
    """CPU seconds of this process, its living descendants, and their buried children."""
    me = psutil.Process()
    times = [me.cpu_times()]
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a snippet's: its parent has its time
            times.append(child.cpu_times())
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


async def _pooled(pool: Pool, code: str, count: int) -> tuple[float, float]:
    """Snippets a second with WAITING calls in flight, and CPU milliseconds a call, the event loop's included."""

    async def client(n: int) -> None:
        for _ in range(n):
            await pool.execute(code)

    begin, cpu = time.perf_counter(), _cpu_s()
    await asyncio.gather(*(client(count // WAITING) for _ in range(WAITING)))
    done = count // WAITING * WAITING
    return done / (time.perf_counter() - begin), (_cpu_s() - cpu) / done * 1e3


def _subprocesses(code: str, count: int) -> tuple[float, float]:
    def one(_: int) -> None:
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    begin, cpu = time.perf_counter(), _cpu_s()
    with concurrent.futures.ThreadPoolExecutor(WAITING) as threads:
        list(threads.map(one, range(count)))
    return count / (time.perf_counter() - begin), (_cpu_s() - cpu) / count * 1e3


BARE_FORK = """
import os, resource, sys, time
from torl_core.sandbox.inside import kernel, zygote
os.environ.setdefault("TORL_PROGRAM_FOLDER", sys.path[0]); os.environ.setdefault("PYTHONPATH", "")
code, count = sys.argv[1], int(sys.argv[2])
fork = {fork}
zygote._warm_up()
null = os.open(os.devnull, os.O_RDWR)
def once():
    pid = fork()
    if pid == 0:
        os.dup2(null, 1); os.dup2(null, 2)
        try: exec(compile(code, "<snippet>", "exec"), {{"__name__": "__main__"}}); sys.stdout.flush()
        except BaseException: import traceback; traceback.print_exc()
        os._exit(0)
    os.waitpid(pid, 0)
def cpu():
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in both)
for _ in range(5): once()
begin, used = time.perf_counter(), cpu()
for _ in range(count): once()
print(count / (time.perf_counter() - begin), (cpu() - used) / count * 1e3)
"""


def _bare_fork(code: str, count: int, fork: str) -> tuple[float, float]:
    """One at a time: its rate is that of one core."""
    words = [sys.executable, "-c", BARE_FORK.format(fork=fork), code, str(count)]
    environment = os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    output = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout
    rate, cpu_ms = map(float, output.split())
    return rate, cpu_ms


async def _latencies_ms(pool: Pool, code: str, count: int) -> list[float]:
    """Beyond the snippet's own run time: the call as its caller sees it, one at a time."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await pool.execute(code)
        times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times)


async def main(soak_calls: int) -> None:
    config = SandboxConfig(workers=os.cpu_count() or 2)
    begin = time.perf_counter()
    pool = await open_pool(config)
    opened_s = time.perf_counter() - begin
    if soak_calls:
        await soak(pool, soak_calls)
        await pool.close()
        left = holdings()
        print(f"| after close | | {left['processes']} processes, {left['control groups']} control groups |")
        return
    print(f"Opened in {opened_s:.1f} s.")
    print(f"{config.workers} workers, {config.slots_per_worker} slots each; {os.cpu_count()} cores\n")
    print(
        f"| snippets/s at {WAITING} waiting calls (CPU ms per call) "
        "| sandbox | subprocess | ratio | bare fork, one core | os.fork, one core |"
    )
    print("|---|---|---|---|---|---|")
    for name, code in SNIPPETS.items():
        heavy = name in ("sympy solve", "numpy")
        await _pooled(pool, code, 2 * WAITING)
        rows = [
            await _pooled(pool, code, 320 if heavy else 960),
            _subprocesses(code, 8 if heavy else 48),
            _bare_fork(code, 60 if heavy else 200, "kernel.fork"),
            _bare_fork(code, 60 if heavy else 200, "os.fork"),
        ]
        ours, theirs, *forks = (f"{rate:.3g} ({cpu_ms:.1f})" for rate, cpu_ms in rows)
        print(f"| {name} | " + " | ".join([ours, theirs, f"{rows[0][0] / rows[1][0]:.0f}", *forks]) + " |")
    print("\n| one call at a time, ms | median | 95% |\n|---|---|---|")
    for name, code in SNIPPETS.items():
        times = await _latencies_ms(pool, code, 100)
        print(f"| {name} | {statistics.median(times):.1f} | {times[94]:.1f} |")
    print(f"\n| print(1+1) for {WINDOW_S:.0f} s, {WAITING} clients unless it says otherwise | calls/s |\n|---|---|")
    for name, arguments in BESIDE.items():
        print(f"| {name} | {await _rate(pool, **arguments):.0f} |")
    print(f"Largest resident size of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB.")
    await pool.close()


WINDOW_S = 3.0
BESIDE = {
    "10 clients": {"clients": 10},
    "10,000 clients": {"clients": 10_000},
    "alone": {},
    "2 more that sleep 300 ms": {"others": ("import time\ntime.sleep(0.3)",) * 2},
    "2 more that loop until their limit": {"others": ("while True: pass",) * 2},
}


async def _rate(pool: Pool, clients: int = WAITING, others: tuple[str, ...] = ()) -> float:
    """print(1+1) a second while `clients` of them, and the others, stand in line or run at any time."""
    count = 0

    async def client() -> None:
        nonlocal count
        while True:
            await pool.execute("print(1+1)")
            count += 1

    async def other(code: str) -> None:
        while True:
            await pool.execute(code, 1.0)

    tasks = [*(asyncio.create_task(other(code)) for code in others)]
    tasks += [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(0.5)
    before, begin = count, time.perf_counter()
    await asyncio.sleep(WINDOW_S)
    rate = (count - before) / (time.perf_counter() - begin)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return rate


KINDS = {
    "print": "print(1+1)",
    "error": "1/0",
    "files": "import os\nfor i in range(20): open(str(i), 'w').write('x')\nos.mkdir('d'); os.chmod('d', 0)",
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)",
    "threads": "import threading\nt = [threading.Thread(target=int) for _ in range(4)]\n[x.start() for x in t]",
    "descriptors": "import os\nheld = [os.pipe() for _ in range(40)]",
    "shared memory": "open('/dev/shm/x', 'wb').write(bytes(1 << 16))",
    "crash": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "output": "print('x' * (17 << 20))",
    "exit": "import os\nos._exit(3)",
}
"""Each equally often; a thousandth of all calls loops until its time limit, another is cancelled while it runs."""
LOOP = "while True: pass"


def holdings() -> dict[str, int]:
    """What this process and its descendants hold, and what lies about on the machine with this project's names."""
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    groups = [path for path in Path("/sys/fs/cgroup").rglob("torl-sandbox-*") if path.is_dir()]
    return {
        "processes": len(family) - 1,
        "of them zombies": sum(p.status() == psutil.STATUS_ZOMBIE for p in family),
        "file descriptors": sum(p.num_fds() for p in family),
        "mounts seen": sum(len(Path(f"/proc/{p.pid}/mountinfo").read_text().splitlines()) for p in family),
        "temporary files": len([*Path("/tmp").glob("torl-*"), *Path("/dev/shm").glob("torl-*")]),
        "control groups": sum(1 + sum(below.is_dir() for below in group.iterdir()) for group in groups),
        "asyncio tasks": len(asyncio.all_tasks()),
        "resident MiB of the pool's process": me.memory_info().rss >> 20,
    }


async def soak(pool: Pool, calls: int, waiting: int = 16) -> None:
    """Prints a table of `holdings` before and after `calls` calls, `waiting` of them in flight at any time."""
    codes = list(KINDS.values())
    statuses: Counter[str] = Counter()

    async def client(first: int) -> None:
        for i in range(first, calls, waiting):
            if i % 1000 == 500:
                statuses[(await pool.execute(LOOP, 0.2)).status] += 1
            elif i % 1000 == 750:
                await cancelled()
            else:
                statuses[(await pool.execute(codes[i % len(codes)])).status] += 1

    async def cancelled() -> None:
        task = asyncio.create_task(pool.execute(LOOP))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        statuses["cancelled"] += 1

    async def report() -> None:
        while True:
            await asyncio.sleep(60)
            print(f"  {sum(statuses.values())} calls after {time.perf_counter() - begin:.0f} s", flush=True)

    begin = time.perf_counter()
    await asyncio.gather(*(pool.execute(code) for code in codes * 8))
    await asyncio.sleep(0.5)
    before, begin = holdings(), time.perf_counter()
    talking = asyncio.create_task(report())
    await asyncio.gather(*(client(first) for first in range(waiting)))
    talking.cancel()
    took_s = time.perf_counter() - begin
    await asyncio.sleep(1)
    after = holdings()
    print(f"\n{calls} snippets in {took_s:.0f} s, load {os.getloadavg()[0]:.0f}: {dict(statuses)}; {pool.stats}\n")
    print("| held by the open pool | before | after |\n|---|---|---|")
    for name, count in before.items():
        print(f"| {name} | {count} | {after[name]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=int, default=0, metavar="N")
    asyncio.run(main(parser.parse_args().soak))
