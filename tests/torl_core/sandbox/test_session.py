"""A session: variables of earlier calls are there, their output is not, and the rest is as without one."""

from __future__ import annotations

import pytest

from torl_core.session import with_earlier
from torl_core.types import ToolCall


def converse(bench, *codes: str) -> list[ToolCall]:
    """Each code run in the session of those before it."""
    calls: list[ToolCall] = []
    for code in codes:
        call = bench.execute(with_earlier(calls, code))
        calls.append(ToolCall(code, call.status, call.stdout, call.stderr, call.duration_s, exit_code=call.exit_code))
    return calls


def test_a_first_call_is_the_code_itself():
    assert with_earlier([], "print(1)") == "print(1)"


def test_a_later_call_sees_variables_imports_functions_and_files(any_backend):
    first = "import math as m\nx = 41\ndef f(n):\n    return n + x\nopen('kept', 'w').write('file')\nprint('first')"
    second = "x += 1\nprint(f(0), m.pi > 3, open('kept').read(), __name__)"
    calls = converse(any_backend, first, second, "print(x)")
    assert [call.stdout for call in calls] == ["first\n", "42 True file __main__\n", "42\n"]
    assert {call.status for call in calls} == {"ok"}


def test_what_a_failed_call_built_before_its_failure_is_there(any_backend):
    calls = converse(any_backend, "a = 1\nb = 1 / 0\nc = 3", "print(a, 'b' in globals(), 'c' in globals())")
    assert (calls[0].status, calls[1].stdout) == ("error", "1 False False\n")


def test_earlier_calls_are_unheard_whatever_they_do(any_backend):
    first = "import os, sys\nos.write(1, b'raw')\nprint('err', file=sys.stderr)\ny = 5\nos._exit(0)"
    _, second = converse(any_backend, first, "print(y)")
    assert (second.status, second.stdout, second.stderr) == ("ok", "5\n", "")


STILL_TALKING = {
    "a daemon thread": "import threading, time\ndef f():\n    while True:\n        time.sleep(0.01); print('old')\n"
    "threading.Thread(target=f, daemon=True).start()",
    "a daemon thread that holds the stream": "import sys, threading, time\ndef f(out):\n    while True:\n"
    "        time.sleep(0.01); print('old', file=out)\n"
    "threading.Thread(target=f, args=(sys.stdout,), daemon=True).start()",
    "a thread that ends later": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.1), print('old'))).start()",
    "a worker of an executor": "import time\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "e = ThreadPoolExecutor(1)\ne.submit(lambda: (time.sleep(0.1), print('old')))",
    "an exit function": "import atexit\natexit.register(print, 'old')",
    "a forked process": "import os, time\nif os.fork() == 0:\n    time.sleep(0.1); print('old'); os._exit(0)",
    "a forked process that comes to the end of the call": "import os\nos.fork()",
    "a forked process that fails": "import os, time\nif os.fork() == 0:\n    1 / 0",
    "another stream as standard output": "import io, sys\nsys.stdout = io.StringIO()",
    "a closed standard output": "import sys\nsys.stdout.close()",
}


@pytest.mark.parametrize("first", STILL_TALKING.values(), ids=STILL_TALKING)
def test_what_an_earlier_call_left_running_is_unheard_and_the_later_call_is_heard(any_backend, first):
    later = (
        "import os, threading, time\nprint('new')\ntime.sleep(0.2)\n"
        "t = threading.Thread(target=print, args=('thread',))\nt.start(); t.join()\nos.write(1, b'raw\\n')\nos._exit(0)"
    )
    _, second = converse(any_backend, first, later)
    assert (second.status, second.stdout, second.stderr) == ("ok", "new\nthread\nraw\n", "")


def test_a_thread_that_an_earlier_call_waited_for_at_its_end_has_done_its_work(any_backend):
    first = (
        "import threading, time\nfound = []\ndef f():\n    time.sleep(0.2)\n    found.append(7)\n"
        "threading.Thread(target=f).start()"
    )
    assert converse(any_backend, first, "print(found)")[1].stdout == "[7]\n"


def test_processes_and_executors_work_in_both_calls(any_backend):
    code = (
        "import multiprocessing as m\nfrom concurrent.futures import ThreadPoolExecutor as E\n"
        "with m.Pool(2) as p, E(2) as e:\n    print(p.map(abs, [-1, -2]), list(e.map(abs, [-3])))"
    )
    assert [call.stdout for call in converse(any_backend, code, code)] == ["[1, 2] [3]\n"] * 2


def test_a_failure_is_reported_with_its_own_lines(any_backend):
    _, second = converse(any_backend, "x = 0", "y = 1\nz = y / x")
    assert second.status == "error"
    assert second.stderr.endswith(
        '  File "<snippet>", line 2, in <module>\n    z = y / x\n         ~~^~~\nZeroDivisionError: division by zero\n'
    )


@pytest.mark.parametrize(
    ("code", "last_line"),
    [
        ("y = 1\x00", "SyntaxError: source code string cannot contain null bytes"),
        ("y = '\ud800'", "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xed in position 0: "),
    ],
)
def test_a_later_call_that_is_no_python_is_a_syntax_error_and_builds_nothing(any_backend, code, last_line):
    _, second, third = converse(any_backend, "x = 1", code, "print(x, 'y' in globals())")
    assert second.status == "error"
    assert second.stderr.rstrip().rpartition("\n")[2].startswith(last_line)
    assert (third.stdout, third.stderr) == ("1 False\n", "")


def test_names_of_the_session_itself_are_not_seen(any_backend):
    _, second = converse(any_backend, "x = 1", "print(sorted(n for n in globals() if not n.startswith('__')))")
    assert second.stdout == "['x']\n"


def test_random_draws_go_on_where_they_were(any_backend):
    code = "import random\nprint(random.random())"
    first, second = converse(any_backend, code, code)
    assert first.stdout != second.stdout
    assert any_backend.execute(code + "\nprint(random.random())").stdout == first.stdout + second.stdout


def test_a_call_that_was_killed_is_not_repeated(any_backend):
    killed = ToolCall("z = 1\nwhile True: pass", "timeout", "", "", 5.0)
    assert any_backend.execute(with_earlier([killed], "print('z' in globals())")).stdout == "False\n"


def test_another_trajectory_sees_nothing(any_backend):
    converse(any_backend, "secret = 1", "print(secret)")
    assert any_backend.execute("print('secret' in globals())").stdout == "False\n"
