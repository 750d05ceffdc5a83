"""What a sandboxed snippet costs: `python tests/benchmarks/sandbox.py` prints Markdown tables, in under a minute.

Compared with a `subprocess` per snippet (same interpreter, no isolation) and with a bare fork, run and exit of the same
warm interpreter (no isolation, no limits, no output kept): the floor under any fork server.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import resource
import statistics
import subprocess
import sys
import time

import psutil

from torl_core.config import SandboxConfig
from torl_core.sandbox import Pool, open_pool

WAITING, CALLS = 16, 3000
SNIPPETS = {
    "print(1+1)": "print(1+1)",
    "sympy solve": "from sympy import *\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))",
    "numpy": "import numpy as np\na = np.arange(10000.0).reshape(100, 100)\nprint((a @ a).sum())",
    "error": "def f(x):\n    return 1 / x\nf(0)",
}


def _cpu_s() -> float:
    """CPU seconds of this process, its living descendants, and their buried children."""
    me = psutil.Process()
    times = [me.cpu_times(), *(child.cpu_times() for child in me.children(recursive=True))]
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


async def main() -> None:
    config = SandboxConfig(workers=os.cpu_count() or 2)
    begin = time.perf_counter()
    pool = await open_pool(config)
    opened_s = time.perf_counter() - begin
    print(f"Opened in {opened_s:.1f} s.")
    print(f"{config.workers} workers, {config.slots_per_worker} slots each; {os.cpu_count()} cores\n")
    print(
        f"| snippets/s at {WAITING} waiting calls (CPU ms per call) "
        "| sandbox | subprocess | bare fork, one core | os.fork, one core |"
    )
    print("|---|---|---|---|---|")
    for name, code in SNIPPETS.items():
        heavy = name in ("sympy solve", "numpy")
        await _pooled(pool, code, 2 * WAITING)
        cells = [
            await _pooled(pool, code, 320 if heavy else 960),
            _subprocesses(code, 8 if heavy else 48),
            _bare_fork(code, 60 if heavy else 200, "kernel.fork"),
            _bare_fork(code, 60 if heavy else 200, "os.fork"),
        ]
        print(f"| {name} | " + " | ".join(f"{rate:.0f} ({cpu_ms:.1f})" for rate, cpu_ms in cells) + " |")
    print("\n| one call at a time, ms | median | 95% |\n|---|---|---|")
    for name, code in SNIPPETS.items():
        times = await _latencies_ms(pool, code, 100)
        print(f"| {name} | {statistics.median(times):.1f} | {times[94]:.1f} |")
    few, many = await _rate_at(pool, 10), await _rate_at(pool, CALLS)
    print(f"\nprint(1+1) with 10 calls waiting: {few:.0f}/s; with {CALLS}: {many:.0f}/s.")
    print(f"Largest resident size of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB.")
    await pool.close()


async def _rate_at(pool: Pool, waiting: int) -> float:
    """Calls a second over CALLS calls of which `waiting` stand in the queue at any time."""
    begin = time.perf_counter()
    gate = asyncio.Semaphore(waiting)

    async def one() -> None:
        async with gate:
            await pool.execute("print(1+1)")

    await asyncio.gather(*(one() for _ in range(CALLS)))
    return CALLS / (time.perf_counter() - begin)


if __name__ == "__main__":
    asyncio.run(main())
