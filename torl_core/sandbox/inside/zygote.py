"""The warm interpreter. It imports what snippets use, then forks a slot whenever the pool asks for one.

Run as `python -c "from torl_core.sandbox.inside.zygote import main; main(FD, JAIL)"`, FD being its channel to the
pool and JAIL one of `limits.Jail`. It depends on the standard library, numpy and sympy alone: nothing else is
sure to be in the jail.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import importlib
import itertools
import json
import os
import random
import signal
import socket
import sys
import threading
import traceback
from types import ModuleType

from torl_core.sandbox.inside import kernel, layout, slot
from torl_core.sandbox.inside.limits import Jail, Limits

SEED = 0
THREAD_STACK_BYTES = 2 << 20
"""The memory limit counts a thread's whole stack, which is 8 MiB otherwise."""
FIXED_ADDRESSES = "TORL_FIXED_ADDRESSES"
"""Set in the second life of the process, which has the same addresses in every worker: id() is then the same, too."""
_COMMON = """
bisect cmath collections contextlib copy csv ctypes dataclasses datetime decimal enum fractions functools heapq
inspect itertools json logging math operator pprint queue random re signal statistics string subprocess tempfile
textwrap threading time timeit traceback typing warnings mpmath numpy numpy.linalg numpy.random sympy sympy.abc
sympy.combinatorics sympy.geometry sympy.ntheory sympy.solvers sympy.stats
"""
WARM_UP = """
import numpy as np
from sympy import *
x, y, z = symbols("x y z")
n = symbols("n", integer=True, positive=True)
print(solve(x**2 - 5*x + 6, x), solve([x + y - 3, x - y - 1], [x, y]), solve(x**3 - 2*x + 1, x), solve(sin(x) - 1, x))
print(simplify(sin(x)**2 + cos(x)**2), factor(x**3 - 1), expand((x + y)**3), apart(1/(x*(x + 1))), sqrt(8))
print(diff(exp(x)*x**2, x), integrate(x**2*exp(x), x), integrate(1/x, (x, 1, 2)), Rational(1, 3), latex(sqrt(x)/2))
print(limit(sin(x)/x, x, 0), series(exp(x), x, 0, 4), nsolve(cos(x) - x, 1), N(pi, 30), Eq(x, y), sympify("x**2 + 1"))
print(summation(n, (n, 1, 10)), Sum(1/n**2, (n, 1, oo)).doit(), solveset(x**2 - 1, x), Matrix([[1, 2], [3, 4]]).inv())
print(Matrix([[2, 1], [1, 2]]).eigenvals(), factorint(360), isprime(97), gcd(12, 18), divisors(28), binomial(5, 2))
print(factorial(5), totient(10), mod_inverse(3, 7), np.linalg.solve(np.eye(3) + 1, np.arange(3.0)))
print(np.roots([1, -3, 2]), np.random.rand(2).sum(), np.sort(np.arange(9) % 4).mean())
try: 1/0
except ZeroDivisionError: traceback.format_exc()
"""
"""Run once, so that snippets find sympy's caches filled and lazily imported modules loaded."""


def main(fd: int, jail: Jail) -> None:
    if jail == "bubblewrap" and os.getuid() == 0:
        _drop_root()
    if jail == "gvisor":
        fd = _prepare_gvisor(fd)
    elif os.environ.pop(FIXED_ADDRESSES, None) is None:
        kernel.disable_address_randomisation()
        os.environ[FIXED_ADDRESSES] = "1"
        os.execv(sys.executable, sys.orig_argv)
    channel = socket.socket(fileno=fd)
    limits = Limits(**json.loads(channel.recv(1 << 20)))
    _be_killed_first()
    heap = _warm_up()
    limits = dataclasses.replace(limits, memory_bytes=limits.memory_bytes + slot.address_space_bytes())
    filter_ = kernel.Filter(bytes.fromhex(limits.seccomp)) if limits.seccomp else None
    channel.send(slot.READY)
    _serve(channel, limits, filter_, heap)


def _prepare_gvisor(fd: int) -> int:
    """Make /dev what it is in the other jail. Returns the channel, moved away from standard input, which alone of all
    descriptors gVisor hands in."""
    channel = os.dup(fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), fd)
    os.rmdir("/dev/shm")
    os.symlink("/tmp", "/dev/shm")
    for needless in ("/dev/fuse", "/dev/net/tun", "/dev/tty"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(needless)
    return channel


def _drop_root() -> None:
    """To an identity that owns nothing. What is left of root would otherwise escape the process limit."""
    os.setgroups([])
    os.setresgid(slot.UNPRIVILEGED_ID, slot.UNPRIVILEGED_ID, slot.UNPRIVILEGED_ID)
    os.setresuid(slot.UNPRIVILEGED_ID, slot.UNPRIVILEGED_ID, slot.UNPRIVILEGED_ID)


def _be_killed_first() -> None:
    """When the machine runs out of memory, a snippet is the best thing to lose."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _warm_up() -> layout.Heap:
    """Returns what of its memory is in huge pages."""
    layout.reserve()
    for name in _COMMON.split():
        importlib.import_module(name)
    with open(os.devnull, "w") as null:
        sys.stdout, kept = null, sys.stdout
        exec(WARM_UP, {"__name__": "warm_up", "traceback": traceback})
        sys.stdout = kept
    threading.stack_size(THREAD_STACK_BYTES)
    _hide_this_program()
    _fix_random_states()
    atexit._clear()  # what the imports left there would run, and cost, in every snippet
    gc.collect()
    layout.merge_mappings()
    heap = layout.heap()
    layout.use_huge_pages(heap)
    gc.freeze()
    return heap


def _hide_this_program() -> None:
    """Snippets find an interpreter in which none of these modules was ever imported."""
    own_folder = os.environ.pop("TORL_PROGRAM_FOLDER")
    sys.path.remove(own_folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in os.environ["PYTHONPATH"].split(os.pathsep) if p != own_folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "torl_core"]:
        del sys.modules[name]


def _fix_random_states() -> None:
    """The same draws in every snippet, seeded or not, numpy's `default_rng()` without a seed included."""
    import numpy.random

    random.seed(SEED)
    numpy.random.seed(SEED)
    entropy: ModuleType = numpy.random.bit_generator
    entropy.randbits = random.Random(SEED).getrandbits  # type: ignore[attr-defined]


def _serve(channel: socket.socket, limits: Limits, filter_: kernel.Filter | None, heap: layout.Heap) -> None:
    """One slot per descriptor received, until the pool closes the channel."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # slots need no burial
    slots: dict[int, int] = {}
    for number in itertools.count():
        message, fds, _, _ = socket.recv_fds(channel, 64, 1)
        if not message:
            return
        with socket.socket(fileno=fds[0]) as theirs:
            slots[number] = slot.start(theirs, limits, filter_, heap, number)
        if limits.jail == "gvisor":
            slots = {number: pid for number, pid in slots.items() if not slot.clear(number, pid)}
