import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torl_core.episode_kit import CODEC, build_tokenizer
from torl_core.codec import HfCodec
from torl_core.config import ToolConfig
from torl_core.tool_calls import call_end, code_of, framed, last_error_line, observation, read, shorten
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


def code_blocks(text: str, dialect: int = 2) -> list[str]:
    return list(read(text, dialect).blocks)


def requested_code(text: str, dialect: int = 2) -> list[str]:
    return [blocks[-1] for blocks in read(text, dialect).requests]


def unrecognised(text: str, dialect: int = 2) -> int:
    return read(text, dialect).unrecognised


BOTH = pytest.mark.parametrize("dialect", [1, 2])


@BOTH
def test_code_of_a_plain_call(dialect: int) -> None:
    text = "Let me see.\n```python\nx = 1\nprint(x)\n```\n```output"
    assert code_blocks(text, dialect) == ["x = 1\nprint(x)"]
    assert requested_code(text, dialect) == ["x = 1\nprint(x)"]
    assert unrecognised(text, dialect) == 0


@BOTH
def test_the_mark_itself_closes_a_block(dialect: int) -> None:
    assert requested_code("```python\nprint(1)\n```output", dialect) == ["print(1)"]


@BOTH
def test_the_latest_block_is_asked_for(dialect: int) -> None:
    text = "```python\nprint(1)\n```\nbetter:\n```python\nprint(2)\n```\n```bash\nls\n```\n```output"
    assert requested_code(text, dialect) == ["print(2)"]
    assert code_blocks(text, dialect) == ["print(1)", "print(2)"]


@BOTH
def test_a_mark_without_new_code_asks_for_nothing(dialect: int) -> None:
    assert requested_code("it prints ```output\n4\n```\n", dialect) == []
    assert requested_code("```python\nprint(1)\n```\n```output\n1\n```\nagain ```output", dialect) == ["print(1)"]


@BOTH
def test_each_block_can_be_asked_for_once(dialect: int) -> None:
    text = "```python\na\n```\n```output\n1\n```\n```python\nb\n```\n```output\n2\n```\n```output\n"
    assert requested_code(text, dialect) == ["a", "b"]


@BOTH
def test_an_open_block_is_not_a_block(dialect: int) -> None:
    assert code_blocks("```python\nprint(1)", dialect) == []
    assert requested_code('```python\nprint("```output', dialect) == []


@BOTH
def test_fences_inside_a_line_of_code_belong_to_it(dialect: int) -> None:
    code = 'print("```output```")'
    assert requested_code(f"```python\n{code}\n```\n```output", dialect) == [code]
    assert unrecognised(f"```python\n{code}\n```\n```output", dialect) == 0


@BOTH
def test_a_block_left_open_is_closed_by_the_next(dialect: int) -> None:
    assert code_blocks("```python\na\n```python\nb\n```", dialect) == ["a", "b"]


@BOTH
def test_other_languages_and_inline_fences_are_not_python_blocks(dialect: int) -> None:
    text = "```bash\nls\n```\n```\nx\n```\nthe fence ```python opens code"
    assert code_blocks(text, dialect) == []
    for name in ("pyth", "pypy", "python2", "ipython", "cython", "pytb", "Python is", "pycon"):
        assert code_blocks(f"```{name}\nx\n```", dialect) == [], name


@BOTH
def test_an_empty_block(dialect: int) -> None:
    assert code_blocks("```python\n```", dialect) == [""]


@pytest.mark.parametrize(
    "fence",
    ["py", "Python", "PYTHON", "python3", "Python3", "py3", "python3.11", " python", "python \t", "`python", "`\tpy "],
)
def test_spellings_that_can_only_mean_python(fence: str) -> None:
    text = f"So:\n```{fence}\nprint(1)\n```\n```output"
    assert requested_code(text) == ["print(1)"]
    assert unrecognised(text) == 0
    if fence.strip("` \t") != "python" or fence.startswith(" "):
        assert requested_code(text, dialect=1) == []
        assert unrecognised(text, dialect=1) == 1


def test_a_block_of_tildes_is_closed_by_tildes_or_the_mark() -> None:
    assert requested_code("~~~python\nx = '''\n```\n'''\n~~~\n```output") == ["x = '''\n```\n'''"]
    assert requested_code("~~~~py\nprint(1)\n```output") == ["print(1)"]
    assert code_blocks("```python\na = '''\n~~~\n'''\n```") == ["a = '''\n~~~\n'''"]
    assert unrecognised("~~~python\nprint(1)\n~~~\n```output", dialect=1) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It prints ```output\n4\n```", 1),
        ("```output```output", 2),
        ("```python\na\n```\n```output\n1\n```\n```output\n2\n```", 1),
        ("```python\na\n```\n```output```output", 1),
        ("```python\na\n```\n~~~output\n1\n~~~", 1),
        ("```python\na\n```\n``` output", 1),
        ("```python\na\n```\n```Output", 1),
        ("~~~python\na\n~~~output", 1),
        ("```bash\nls\n```\n```output", 1),
        ("```python title=x\na\n```\n```output", 1),
        ("```\na\n```\n````output", 1),
        ("```python\nprint('~~~output')\n```", 0),
        ("``output`` and ~~ output and the output", 0),
        ("```python\na\n```", 0),
        ("", 0),
    ],
)
@BOTH
def test_what_looks_like_a_request_and_is_none_is_counted(text: str, count: int, dialect: int) -> None:
    if dialect == 2 or "~~~python" not in text:
        assert unrecognised(text, dialect) == count


def test_the_indentation_of_a_fence_is_not_code() -> None:
    text = "1. do\n   ```python \n   for i in [1]:\n       print(i)\n\n   x = 1\n   ```\n   ```output"
    assert requested_code(text) == ["for i in [1]:\n    print(i)\n\nx = 1"]
    assert requested_code(text, dialect=1) == ["   for i in [1]:\n       print(i)\n\n   x = 1"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # CommonMark 0.31, examples 131 to 133
        (" ```python\n aaa\naaa\n```", "aaa\naaa"),
        ("  ```python\n  aaa\n  aaa\naaa\n  ```", "aaa\naaa\naaa"),
        ("   ```python\n   aaa\n    aaa\n  aaa\n   ```", "aaa\n aaa\naaa"),
        ("- ```python\n  aaa\n  ```", "aaa"),
        ("12. ```python\n    if x:\n      aaa\n    ```", "if x:\n  aaa"),
        (">\t1) - ```python\n  aaa\n```", "  aaa"),  # not the margin of a list: nothing is known of what it should be
        ("\t```python\n\tif x:\n\t\taaa\n\t```", "if x:\n    aaa"),
        ("\t```python\n    if x:\n\taaa\n\t```", "if x:\naaa"),
        ("   ````python\n   aaa\n   ````", "aaa"),
        # code that stands further left than its fence keeps its own indentation
        ("   ```python\nif x:\n  aaa\n   ```", "if x:\n  aaa"),
        ("    ```python\n  if x:\n    aaa\n  ```", "if x:\n  aaa"),
        ("   ```python\n\n   aaa\n   ```", "\naaa"),
        ("   ```python\n\n   ```", ""),
        ("do: ```python\n    aaa\n```", "    aaa"),
    ],
)
def test_indented_blocks(text: str, code: str) -> None:
    assert code_blocks(text) == [code]


def test_one_or_all_blocks_of_a_request_are_run() -> None:
    text = "```python\nx = 1\n```\nthen\n```python\nprint(x)\n```\n```output\n```python\ny\n```output"
    first, second = read(text, 2).requests
    assert (first, second) == (("x = 1", "print(x)"), ("y",))
    assert code_of(first, TOOL) == ("print(x)", 1)
    joined = ToolConfig(blocks="joined")
    assert code_of(first, joined) == ("x = 1\nprint(x)", 2)
    assert code_of(second, joined) == ("y", 1)


@pytest.mark.parametrize(
    "piece", ["`", "~", "```", "``` ", "```py", "```python\n", "```output", "1. ", "\t", "~~~ output\n"]
)
def test_reading_takes_time_linear_in_the_text(piece: str) -> None:
    # a quadratic scan of a million characters would take hours
    assert len(read(piece * (1_000_000 // len(piece)), 2).requests) <= 1


# what is shown


def test_success_shows_stdout_only() -> None:
    assert observation(call("ok", "1\n2\n", "a warning"), TOOL, CODEC) == "1\n2"


def test_correct_output_that_names_errors_is_not_cut() -> None:
    out = "Traceback (most recent call last):\nError: 0.5\nlast Error line"
    assert observation(call("ok", out), TOOL, CODEC) == out


def test_empty_success_says_so_and_is_no_timeout() -> None:
    for stdout in ("", "\n", " \n\t"):
        shown = observation(call("ok", stdout), TOOL, CODEC)
        assert shown == "(no output: the code ran without error but printed nothing)"
    assert observation(call("ok"), ToolConfig(empty_output="nothing"), CODEC) == "nothing"


def test_failure_shows_one_line_and_no_output_before_it() -> None:
    stderr = 'Traceback (most recent call last):\n  File "<code>", line 2\nZeroDivisionError: division by zero\n'
    assert observation(call("error", "42\n", stderr, 1), TOOL, CODEC) == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("failed", "shown"),
    [
        (call("timeout", "partial"), "TimeoutError: the code did not finish within the time limit"),
        (call("memory"), "MemoryError: the code used more memory than allowed"),
        (call("output_limit"), "OutputLimitError: the code printed more than allowed"),
        (call("crash", exit_code=-11), "CrashError: the interpreter died while it ran the code (signal 11)"),
        (call("crash"), "CrashError: the interpreter died while it ran the code"),
        (call("error", "ignored", "", 3), "SystemExit: 3"),
    ],
)
def test_wording_of_failures_without_traceback(failed: ToolCall, shown: str) -> None:
    assert observation(failed, TOOL, CODEC) == shown


def test_only_a_timeout_mentions_time() -> None:
    statuses: list[CallStatus] = ["ok", "error", "memory", "output_limit", "crash"]
    assert not any("time" in observation(call(status), TOOL, CODEC).lower() for status in statuses)


@pytest.mark.parametrize(
    ("failed", "with_last_line", "with_traceback"),
    [
        (
            call("error", "42\n", "Traceback (most recent call last):\n  File 1\nE: no\n", 1),
            "42\nE: no",
            "42\nTraceback (most recent call last):\n  File 1\nE: no",
        ),
        (
            call("timeout", "partial"),
            "partial\nTimeoutError: the code did not finish within the time limit",
            "partial\nTimeoutError: the code did not finish within the time limit",
        ),
        (call("error", "", "E: no"), "E: no", "E: no"),
        (call("error", "7", "", 3), "7\nSystemExit: 3", "7\nSystemExit: 3"),
    ],
)
def test_output_before_a_failure_is_shown_where_the_config_asks_for_it(
    failed: ToolCall, with_last_line: str, with_traceback: str
) -> None:
    assert observation(failed, ToolConfig(error_output="output_and_last_line"), CODEC) == with_last_line
    assert observation(failed, ToolConfig(error_output="output_and_traceback"), CODEC) == with_traceback


def test_of_too_much_output_the_kept_part_is_shown_with_the_reason() -> None:
    cut = call("output_limit", "yyyy")
    assert observation(cut, TOOL, CODEC) == "yyyy\nOutputLimitError: the code printed more than allowed"
    first = ToolConfig(dialect=1, observation_max_chars=2000)
    assert observation(cut, first, CODEC) == "OutputLimitError: the code printed more than allowed"


def test_long_output_is_shortened_in_the_middle() -> None:
    # letters are tokens; the note has 36
    shown = observation(call("ok", "a" * 500 + "b" * 500), ToolConfig(observation_max_tokens=100), CODEC)
    assert shown == "a" * 32 + "\n... [936 characters left out] ...\n" + "b" * 32


def test_the_limit_counts_tokens_and_splits_no_character() -> None:
    shown = observation(call("ok", "😀" * 2000), ToolConfig(observation_max_tokens=100), CODEC)
    assert shown == "😀" * 8 + "\n... [1984 characters left out] ...\n" + "😀" * 8
    assert len(CODEC.encode(shown)) <= 100


def test_the_ends_of_output_as_the_original_shows_them() -> None:
    tool = ToolConfig(observation_ends_chars=128)
    assert observation(call("ok", "a" * 128 + "x" + "b" * 128), tool, CODEC) == "a" * 128 + "..." + "b" * 128
    assert observation(call("ok", "a" * 256), tool, CODEC) == "a" * 256


def test_dialect_1_limits_characters() -> None:
    tool = ToolConfig(dialect=1, observation_max_chars=100)
    shown = observation(call("ok", "a" * 500 + "b" * 500), tool, CODEC)
    assert shown == "a" * 32 + "\n... [936 characters left out] ...\n" + "b" * 32


def test_the_old_key_in_a_new_config_names_the_new_one() -> None:
    with pytest.raises(ValueError, match=r"observation_max_chars is 100: .* set tool\.observation_max_tokens"):
        ToolConfig(observation_max_chars=100)


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(["a", "😀", "é", "e\u0301", "```output", "\n", "x" * 50, "\ufffd", "漢"]), max_size=150
    ),
    limit=st.integers(1, 200),
)
def test_shortened_text_fits_and_keeps_its_ends(text: list[str], limit: int) -> None:
    whole = CODEC.decode(CODEC.encode("".join(text)))
    short = shorten(whole, limit, CODEC)
    assert len(CODEC.encode(short)) <= limit
    if len(CODEC.encode(whole)) <= limit:
        assert short == whole
        return
    head, note, tail = short.partition("\n... [")
    assert whole.startswith(head)
    if note:
        count, _, tail = tail.partition(" characters left out] ...\n")
        assert whole.endswith(tail)
        assert len(head) + int(count) + len(tail) == len(whole)


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
