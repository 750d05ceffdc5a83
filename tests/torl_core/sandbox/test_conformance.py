# ruff: noqa: E501 (one snippet a line reads better than a wrapped one)
"""What every backend of the Sandbox protocol must do, isolation aside."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import pytest

from torl_core.errors import DataError
from torl_core.sandbox import Pool

KEPT = 65536
LIMIT = 1 << 24


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print(1 + 1)", "2\n"),
        ("", ""),
        ("x = 1", ""),
        ("print('a', end='')", "a"),
        ("print(__name__)", "__main__\n"),
        ("from sympy import *\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))", "[2, 3]\n"),
        ("import numpy as np\nprint(np.arange(4).sum())", "6\n"),
        ("from scipy.optimize import brentq\nprint(round(brentq(lambda x: x * x - 2, 0, 2), 6))", "1.414214\n"),
        ("import pandas as pd\nprint(pd.DataFrame({'a': [1, 2]})['a'].sum())", "3\n"),
        ("import networkx as nx\nprint(nx.number_of_edges(nx.complete_graph(5)))", "10\n"),
        ("def f(n):\n    return n * f(n - 1) if n else 1\nprint(f(20))", "2432902008176640000\n"),
        ("import sys\nsys.exit(0)", ""),
        ("import sys\nsys.exit()", ""),
        ("exit()", ""),
        ("import os\nprint('kept')\nos._exit(0)", "kept\n"),
        ("import atexit\natexit.register(print, 'last')\nprint('first')", "first\nlast\n"),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('joined'))).start()", "joined\n"),
        ("import sys\nprint(sys.stdin.read() == '')", "True\n"),
        ("import multiprocessing as m\nwith m.Pool(2) as p:\n    print(p.map(abs, [-1, -2]))", "[1, 2]\n"),
        ("import asyncio\nasync def f():\n    return 5\nprint(asyncio.run(f()))", "5\n"),
        ("import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(3)'], capture_output=True).stdout)", "b'3\\n'\n"),
        ("open('a.txt', 'w').write('x')\nprint(open('a.txt').read())", "x\n"),
        ("import tempfile\nwith tempfile.NamedTemporaryFile() as f:\n    print(f.write(b'ab'))", "2\n"),
        ("print('\\u00e9\\U0001f600')", "é😀\n"),
        ("print(len(str(2**20000)), int('9' * 5000) == 10**5000 - 1)", "6021 True\n"),
        ("import subprocess, sys\nprint(len(subprocess.run([sys.executable, '-c', 'print(10**5000)'], capture_output=True).stdout))", "5002\n"),
        ("from concurrent.futures import ThreadPoolExecutor as E\nimport time\nwith E(16) as e:\n    print(sum(e.map(lambda i: time.sleep(0.1) or i, range(16))))", "120\n"),
        ("import threading\ndef f(n): return n and 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(900)))\nt.start()", "900\n"),
    ],
)  # fmt: skip
def test_code_that_succeeds(any_backend, code, stdout):
    call = any_backend.execute(code)
    assert (call.status, call.stdout, call.stderr, call.exit_code) == ("ok", stdout, "", 0)
    assert call.code == code


@pytest.mark.parametrize(
    ("code", "last_line", "exit_code"),
    [
        ("1/0", "ZeroDivisionError: division by zero", 1),
        ("print(", "SyntaxError: '(' was never closed", 1),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' (what can be imported here is the standard library, mpmath, networkx, numpy, pandas, scipy, sympy)", 1),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded", 1),
        ("raise SystemExit('bye')", "bye", 1),
        ("import sys\nsys.exit(3)", "", 3),
        ("import os\nos._exit(9)", "", 9),
        ("a = 1\x00", "SyntaxError: source code string cannot contain null bytes", 1),
        ("print('\ud800')", "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte", 1),
        ("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e", "KeyError: 'k'", 1),
        ("raise ExceptionGroup('g', [ValueError('a')])", "    +------------------------------------", 1),
    ],
)  # fmt: skip
def test_code_that_fails(any_backend, code, last_line, exit_code):
    call = any_backend.execute(code)
    assert (call.status, call.exit_code) == ("error", exit_code)
    assert call.stderr.rstrip().rpartition("\n")[2] == last_line


def test_a_traceback_shows_the_code_and_nothing_of_the_sandbox(any_backend):
    call = any_backend.execute("def f(x):\n    return 1 / x\nprint('before')\nf(0)")
    assert call.stdout == "before\n"
    assert call.stderr == (
        "Traceback (most recent call last):\n"
        '  File "<snippet>", line 4, in <module>\n'
        "    f(0)\n"
        '  File "<snippet>", line 2, in f\n'
        "    return 1 / x\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_a_time_limit_keeps_what_was_printed(any_backend):
    call = any_backend.execute("print('so far')\nwhile True: pass", timeout_s=2)
    assert (call.status, call.stdout, call.exit_code) == ("timeout", "so far\n", None)
    assert 2 <= call.duration_s < 10


def test_a_memory_limit(any_backend):
    call = any_backend.execute("x = bytearray(10**9)")
    assert call.status == "memory"
    assert call.stderr.endswith("MemoryError\n")


BESIDE_THE_MAIN_PROGRAM = {
    "thread": "import threading\ndef f(): {}\nt = threading.Thread(target=f)\nt.start(); t.join()\nprint('on')",
    "thread that outlives the code": "import threading, time\ndef f():\n    time.sleep(0.1)\n    {}\n"
    "threading.Thread(target=f).start()\nprint('on')",
    "exit function": "import atexit\n@atexit.register\ndef f(): {}\nprint('on')",
    "finalizer": "class A:\n    def __del__(self): {}\nA()\nprint('on')",
}


@pytest.mark.parametrize("code", BESIDE_THE_MAIN_PROGRAM.values(), ids=BESIDE_THE_MAIN_PROGRAM)
def test_an_exception_beside_the_main_program_is_on_stderr_and_the_call_is_ok(any_backend, code):
    call = any_backend.execute(code.format("raise ValueError('beside')"))
    assert (call.status, call.stdout, call.exit_code) == ("ok", "on\n", 0)
    assert "ValueError: beside\n" in call.stderr


@pytest.mark.parametrize("place", ["thread", "thread that outlives the code", "exit function"])
def test_a_memory_limit_beside_the_main_program_is_memory(any_backend, place):
    call = any_backend.execute(BESIDE_THE_MAIN_PROGRAM[place].format("bytearray(10**9)"))
    assert (call.status, call.stdout, call.exit_code) == ("memory", "on\n", 1)
    assert call.stderr.endswith("MemoryError\n")


@pytest.mark.parametrize("place", ["thread", "thread that outlives the code", "exit function", "finalizer"])
def test_a_time_limit_beside_the_main_program_is_timeout(any_backend, place):
    call = any_backend.execute(BESIDE_THE_MAIN_PROGRAM[place].format("__import__('time').sleep(60)"), timeout_s=1)
    assert (call.status, call.exit_code) == ("timeout", None)


def test_a_memory_limit_in_numpy(any_backend):
    call = any_backend.execute("import numpy as np\nx = np.ones(10**9)")
    assert call.status == "memory"


def test_memory_below_the_limit_is_usable(any_backend):
    call = any_backend.execute("x = bytearray(150 << 20)\nprint(len(x))")
    assert (call.status, call.stdout) == ("ok", f"{150 << 20}\n")
    assert call.peak_memory_bytes is not None
    assert call.peak_memory_bytes > 150 << 20


def shortened(text: str, left_out: int) -> tuple[str, str]:
    """Head and tail of a text whose note says that so many bytes are missing."""
    head, tail = text.split(f"\n[... {left_out} bytes left out ...]\n")
    assert KEPT - 8 <= len(text.encode()) <= KEPT
    assert abs(len(head.encode()) - len(tail.encode())) <= 8
    return head, tail


def test_output_up_to_what_is_kept_is_whole(any_backend):
    call = any_backend.execute(f"import sys\nsys.stdout.write('x' * {KEPT})")
    assert (call.status, call.stdout) == ("ok", "x" * KEPT)


def test_one_byte_more_is_shortened_and_the_program_goes_on(any_backend):
    call = any_backend.execute(f"import sys\nsys.stdout.write('x' * {KEPT + 1})\nsys.exit(7)")
    assert (call.status, call.exit_code) == ("error", 7)
    assert shortened(call.stdout, 33) == ("x" * 32752, "x" * 32752)


def test_half_a_megabyte_of_output_is_a_head_a_note_and_a_tail(any_backend):
    """50,000 lines of ten bytes each; head and tail have 32,751 bytes each beside a note of 33."""
    call = any_backend.execute("for i in range(50_000): print(f'{i:09}')")
    assert (call.status, call.exit_code, call.stderr) == ("ok", 0, "")
    head, tail = shortened(call.stdout, 434498)
    assert head == "".join(f"{i:09}\n" for i in range(3275)) + "0"
    assert tail == "\n" + "".join(f"{i:09}\n" for i in range(50_000 - 3275, 50_000))


def test_a_cut_splits_no_character(any_backend):
    call = any_backend.execute("print('x' + '\U0001f600' * 50_000, end='é')")
    head, _, tail = call.stdout.partition("\n[... ")
    assert set(head) == {"x", "😀"}
    assert set(tail.partition("\n")[2]) == {"😀", "é"}


def test_both_outputs_are_shortened_and_a_memory_error_behind_them_is_seen(any_backend):
    code = "import sys\nprint('o' * 99_999)\nprint('e' * 99_999, file=sys.stderr)\nbytearray(10**9)"
    call = any_backend.execute(code)
    assert call.status == "memory"
    assert shortened(call.stdout, 34498)[1].endswith("ooo\n")
    assert call.stderr.startswith("eee")
    assert " bytes left out ...]\neee" in call.stderr
    assert call.stderr.endswith("MemoryError\n")


def test_a_time_limit_keeps_head_and_tail_of_much_output(any_backend):
    call = any_backend.execute("print('first'); print('x' * 500_000); print('last')\nwhile True: pass", timeout_s=2)
    assert (call.status, call.exit_code) == ("timeout", None)
    assert call.stdout.startswith("first\nxxx")
    assert call.stdout.endswith("xxx\nlast\n")
    assert len(call.stdout.encode()) <= KEPT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_absurd_output_ends_the_snippet_and_what_was_kept_is_returned(any_backend, stream):
    code = (
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nfor i in range(1000):\n"
        f"    print(i, 'é' * 50_000, file=sys.{stream})"
    )
    call = any_backend.execute(code)
    assert (call.status, call.exit_code) == ("output_limit", None)
    said, other = (call.stdout, call.stderr) if stream == "stdout" else (call.stderr, call.stdout)
    assert other == ("err\n" if stream == "stdout" else "out\n")
    assert said.startswith(f"{stream[3:]}\n0 ééé")
    tail = shortened(said, LIMIT - 1 - len(said.encode()) + 35)[1]  # the last é went past the limit
    assert tail.endswith("ééé")


def test_bytes_that_are_not_utf8_become_replacement_characters(any_backend):
    call = any_backend.execute(r"import sys; sys.stdout.buffer.write(b'a\xff\xfeb')")
    assert (call.status, call.stdout) == ("ok", "a��b")


def test_a_crash(any_backend):
    call = any_backend.execute("print('before')\nimport ctypes\nctypes.string_at(0)")
    assert (call.status, call.stdout, call.exit_code) == ("crash", "before\n", -11)


def test_killing_oneself_is_a_crash(any_backend):
    call = any_backend.execute("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nprint('alive')")
    assert (call.status, call.stdout, call.exit_code) == ("crash", "", -9)


def test_the_same_code_gives_the_same_result(any_backend):
    code = (
        "import random, numpy as np\n"
        "print(random.random(), np.random.rand(), np.random.default_rng().random(), hash('text'), {'b', 'a', 'c'})\n"
        "print(id(object()), random.sample(range(100), 5), np.random.permutation(5))"
    )
    outputs = {any_backend.execute(code).stdout for _ in range(4)}
    assert len(outputs) == 1


def test_nothing_is_left_for_the_next_snippet(any_backend):
    changes = (
        "import math, numpy, random, sys, builtins, os, sympy\n"
        "math.pi = 3\nnumpy.sum = None\nbuiltins.leak = 1\nsys.path.clear()\nrandom.seed(5)\nnumpy.random.seed(9)\n"
        "sympy.Symbol.leak = 1\nsys.modules['leak'] = math\nos.environ['LEAK'] = '1'\nopen('leak', 'w').close()\nx = 1"
    )
    before = "import random, numpy, os\nprint(random.random(), numpy.random.rand(), os.getcwd() and os.listdir())"
    look = (
        "import math, numpy, builtins, os, sys, sympy\n"
        "print(math.pi > 3, numpy.sum([1]), hasattr(builtins, 'leak'), len(sys.path) > 2, hasattr(sympy.Symbol, 'leak'),\n"
        "      'leak' in sys.modules, os.environ.get('LEAK'), os.listdir(), 'x' in globals())"
    )
    first = any_backend.execute(before).stdout
    for _ in range(4):  # every slot
        assert any_backend.execute(changes).status == "ok"
        assert any_backend.execute(look).stdout == "True 1 False True False False None [] False\n"
        assert any_backend.execute(before).stdout == first


def test_figures_of_a_call(any_backend):
    call = any_backend.execute("import time\ntime.sleep(1)")
    assert 1 <= call.duration_s < 8
    assert call.cpu_s is not None
    assert 0 < call.cpu_s < 1
    assert call.queued_s >= 0


@pytest.mark.parametrize("code", [None, 5, b"print(1)", ["print(1)"]])
def test_code_that_is_not_text_is_refused(any_backend, code):
    with pytest.raises(DataError, match="Code is text"):
        any_backend.execute(code)


def test_tens_of_megabytes_of_code_are_refused(any_backend):
    with pytest.raises(DataError, match="characters"):
        any_backend.execute("#" * (20 << 20))


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf, 1e9, "5", True])
def test_a_time_limit_that_makes_no_sense_is_refused(any_backend, timeout_s):
    with pytest.raises(DataError, match="time limit"):
        any_backend.execute("print(1)", timeout_s)


def test_many_calls_at_once_are_answered_each_with_its_own(any_backend):
    async def work():
        return await asyncio.gather(*(any_backend.pool.execute(f"print({i})") for i in range(60)))

    assert [call.stdout for call in any_backend.run(work())] == [f"{i}\n" for i in range(60)]


def test_waiting_calls_start_in_order(any_backend):
    """One slot's worth of work at a time: later calls never start before earlier ones."""

    if not isinstance(any_backend.pool, Pool):
        pytest.skip("a network does not keep the order of requests")

    async def work():
        code = "import time\ntime.sleep(0.02)"
        return await asyncio.gather(*(any_backend.pool.execute(code) for _ in range(12)))

    queued = [call.queued_s for call in any_backend.run(work())]
    assert all(later > earlier - 0.005 for earlier, later in pairwise(queued))


def test_a_cancelled_call_frees_its_slot(any_backend):
    async def work():
        endless = [asyncio.create_task(any_backend.pool.execute("while True: pass", 60)) for _ in range(8)]
        await asyncio.sleep(0.3)
        for task in endless:
            task.cancel()
        results = await asyncio.gather(*endless, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        async with asyncio.timeout(30):
            free = await any_backend.pool.execute("print('free')")
            while (
                isinstance(any_backend.pool, Pool) and any_backend.pool.stats.running + any_backend.pool.stats.waiting
            ):
                await asyncio.sleep(0.01)  # the other slot may still be on its way back
            return free

    assert any_backend.run(work()).stdout == "free\n"


def test_sleepers_do_not_hold_up_a_short_call(any_backend):
    """Two slots: with one asleep the other answers."""

    async def work():
        sleeper = asyncio.create_task(any_backend.pool.execute("import time\ntime.sleep(1)"))
        await asyncio.sleep(0.05)
        call = await any_backend.pool.execute("print(1)")
        assert not sleeper.done()
        await sleeper
        return call

    assert any_backend.run(work()).stdout == "1\n"
