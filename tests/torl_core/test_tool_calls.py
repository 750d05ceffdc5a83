import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torl_core.episode_kit import build_tokenizer
from torl_core.codec import HfCodec
from torl_core.config import ToolConfig
from torl_core.tool_calls import call_end, code_blocks, framed, last_error_line, observation, requested_code, shorten
from torl_core.types import CallStatus, ToolCall

TOOL = ToolConfig()


@pytest.fixture(scope="module")
def codec() -> HfCodec:
    return HfCodec(build_tokenizer())


def call(status: CallStatus, stdout: str = "", stderr: str = "", exit_code: int | None = None) -> ToolCall:
    return ToolCall("...", status, stdout, stderr, 0.1, exit_code=exit_code)


def stderr_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


# where a call ends


def pieces(codec: HfCodec, *texts: str) -> tuple[int, ...]:
    return tuple(i for text in texts for i in codec.encode(text))


def test_mark_of_single_bytes(codec: HfCodec) -> None:
    ids = pieces(codec, "a", *"```output", "\n", "b")
    assert call_end(ids, codec) == 10


def test_mark_merged_with_what_surrounds_it(codec: HfCodec) -> None:
    assert call_end(pieces(codec, "a", "\n```output\n", "b"), codec) == 2
    assert call_end(pieces(codec, "x", "```\n```out", "put", "b"), codec) == 3
    assert call_end(pieces(codec, "``", "`", "output s", "b"), codec) == 3


def test_no_mark(codec: HfCodec) -> None:
    assert call_end(pieces(codec, "``` output ``outpu"), codec) is None
    assert call_end((), codec) is None


@settings(max_examples=200)
@given(
    texts=st.lists(
        st.sampled_from(["`", "``", "```", "out", "put", "output", "```output", "é", "\n", "x"]), max_size=20
    )
)
def test_call_end_is_the_first_prefix_with_the_mark(codec: HfCodec, texts: list[str]) -> None:
    ids = pieces(codec, *texts)
    first = next((n for n in range(len(ids) + 1) if "```output" in codec.decode(ids[:n])), None)
    assert call_end(ids, codec) == first


# code


def test_code_of_a_plain_call() -> None:
    text = "Let me see.\n```python\nx = 1\nprint(x)\n```\n```output"
    assert code_blocks(text) == ["x = 1\nprint(x)"]
    assert requested_code(text) == ["x = 1\nprint(x)"]


def test_the_mark_itself_closes_a_block() -> None:
    assert requested_code("```python\nprint(1)\n```output") == ["print(1)"]


def test_the_latest_block_is_asked_for() -> None:
    text = "```python\nprint(1)\n```\nbetter:\n```python\nprint(2)\n```\n```bash\nls\n```\n```output"
    assert requested_code(text) == ["print(2)"]
    assert code_blocks(text) == ["print(1)", "print(2)"]


def test_a_mark_without_new_code_asks_for_nothing() -> None:
    assert requested_code("it prints ```output\n4\n```\n") == []
    assert requested_code("```python\nprint(1)\n```\n```output\n1\n```\nagain ```output") == ["print(1)"]


def test_each_block_can_be_asked_for_once() -> None:
    text = "```python\na\n```\n```output\n1\n```\n```python\nb\n```\n```output\n2\n```\n```output\n"
    assert requested_code(text) == ["a", "b"]


def test_an_open_block_is_not_a_block() -> None:
    assert code_blocks("```python\nprint(1)") == []
    assert requested_code('```python\nprint("```output') == []


def test_fences_inside_a_line_of_code_belong_to_it() -> None:
    code = 'print("```output```")'
    assert requested_code(f"```python\n{code}\n```\n```output") == [code]


def test_a_block_left_open_is_closed_by_the_next() -> None:
    assert code_blocks("```python\na\n```python\nb\n```") == ["a", "b"]


def test_other_languages_and_inline_fences_are_not_python_blocks() -> None:
    assert code_blocks("```bash\nls\n```\n```\nx\n```\nthe fence ```python opens code") == []


def test_empty_and_indented_blocks() -> None:
    assert code_blocks("```python\n```") == [""]
    assert code_blocks("1. do\n   ```python \n   x\n   ```") == ["   x"]


# what is shown


def test_success_shows_stdout_only() -> None:
    assert observation(call("ok", "1\n2\n", "a warning"), TOOL) == "1\n2"


def test_correct_output_that_names_errors_is_not_cut() -> None:
    out = "Traceback (most recent call last):\nError: 0.5\nlast Error line"
    assert observation(call("ok", out), TOOL) == out


def test_empty_success_says_so_and_is_no_timeout() -> None:
    for stdout in ("", "\n", " \n\t"):
        shown = observation(call("ok", stdout), TOOL)
        assert shown == "(no output: the code ran without error but printed nothing)"
    assert observation(call("ok"), ToolConfig(empty_output="nothing")) == "nothing"


def test_failure_shows_one_line_and_no_output_before_it() -> None:
    stderr = 'Traceback (most recent call last):\n  File "<code>", line 2\nZeroDivisionError: division by zero\n'
    assert observation(call("error", "42\n", stderr, 1), TOOL) == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("failed", "shown"),
    [
        (call("timeout", "partial"), "TimeoutError: the code did not finish within the time limit"),
        (call("memory"), "MemoryError: the code used more memory than allowed"),
        (call("output_limit", "yyyy"), "OutputLimitError: the code printed more than allowed"),
        (call("crash", exit_code=-11), "CrashError: the interpreter died while it ran the code (signal 11)"),
        (call("crash"), "CrashError: the interpreter died while it ran the code"),
        (call("error", "ignored", "", 3), "SystemExit: 3"),
    ],
)
def test_wording_of_failures_without_traceback(failed: ToolCall, shown: str) -> None:
    assert observation(failed, TOOL) == shown


def test_only_a_timeout_mentions_time() -> None:
    statuses: list[CallStatus] = ["ok", "error", "memory", "output_limit", "crash"]
    assert not any("time" in observation(call(status), TOOL).lower() for status in statuses)


def test_long_output_is_shortened_in_the_middle() -> None:
    shown = observation(call("ok", "a" * 500 + "b" * 500), ToolConfig(observation_max_chars=100))
    assert shown == "a" * 32 + "\n... [936 characters left out] ...\n" + "b" * 32


@given(text=st.text(max_size=300), limit=st.integers(1, 200))
def test_shortened_text_fits_and_keeps_its_ends(text: str, limit: int) -> None:
    short = shorten(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        assert len(short) <= limit
        head, mark, tail = short.partition("\n... [")
        assert text.startswith(head)
        if mark:
            count, _, tail = tail.partition(" characters left out] ...\n")
            assert text.endswith(tail)
            assert len(head) + int(count) + len(tail) == len(text)


@pytest.mark.parametrize(
    ("after_mark", "appended"),
    [
        ("", "\n7\n```\n"),
        ("\n", "7\n```\n"),
        ("\n\n", "7\n```\n"),
        ("s", "\n7\n```\n"),
        ("\n7", "\n7\n```\n"),
    ],
)
def test_a_sampled_newline_is_not_doubled(after_mark: str, appended: str) -> None:
    assert framed("7", after_mark) == appended


# the last line of a traceback, as this Python prints it


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("def f(:\n  pass", "SyntaxError: invalid syntax"),
        ("  x = 1", "IndentationError: unexpected indent"),
        ("f = lambda: f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('one\\ntwo\\n\\nthree')", "ValueError: one"),
        ("raise KeyError", "KeyError"),
        ("try:\n  1/0\nexcept Exception as e:\n  raise KeyError('k') from e", "KeyError: 'k'"),
        ("try:\n  1/0\nexcept Exception:\n  int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
        ("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])", "ExceptionGroup: two (2 sub-exceptions)"),
        (
            "raise ExceptionGroup('a', [ExceptionGroup('b', [ValueError(1)]), TypeError(2)])",
            "ExceptionGroup: a (2 sub-exceptions)",
        ),
        (
            "try:\n  1/0\nexcept Exception as e:\n  raise ExceptionGroup('g', [ValueError(1)]) from e",
            "ExceptionGroup: g (1 sub-exception)",
        ),
        (
            "try:\n  raise ExceptionGroup('g', [ValueError(1)])\nexcept Exception as e:\n  raise KeyError(3) from e",
            "KeyError: 3",
        ),
        ("e = ValueError('v')\ne.add_note('try this')\nraise e", "ValueError: v"),
        ("import sys\nprint('noise', file=sys.stderr)\n1/0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('no solution')", "no solution"),
        ("import warnings\nwarnings.warn('careful')\nundefined", "NameError: name 'undefined' is not defined"),
    ],
)
def test_last_error_line(code: str, line: str) -> None:
    assert last_error_line(stderr_of(code)) == line


def test_last_error_line_of_nothing_and_of_a_cut_traceback() -> None:
    assert last_error_line("") == ""
    assert last_error_line("\n \n") == ""
    assert last_error_line("...cut...\n    x = f(y)\nValueError: bad y\n") == "ValueError: bad y"
    assert (
        last_error_line('Traceback (most recent call last):\n  File "<code>"') == "Traceback (most recent call last):"
    )


@given(stderr=st.text())
def test_any_stderr_has_one_line(stderr: str) -> None:
    line = last_error_line(stderr)
    assert "\n" not in line
    assert bool(line) == bool(stderr.strip())
