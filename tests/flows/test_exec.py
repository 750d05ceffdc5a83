"""`torl exec` as a process: whatever comes in, every line gets its own answer, and the next ones go on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

ROOT = Path(__file__).parents[2]
EXEC = [sys.executable, "-m", "flows.cli", "exec", "--workers", "1"]

REFUSED = {
    '{"id": 2, "code": 5}': "code is 5. Code is a string. Give code as a JSON string.",
    '{"id": 3}': "code is null. Code is a string. Give code as a JSON string.",
    '{"id": 4, "code": "#' + "x" * 20_000_000 + '"}': "code has 20000001 characters.",
    '{"id": 5, "code": "print(1)", "timeout_s": -1}': "timeout_s is -1.",
    '{"id": 6, "code": "print(1)", "timeout_s": 1e30}': "timeout_s is 1e+30.",
    '{"id": 7, "code": "print(1)", "timeout_s": NaN}': "timeout_s is NaN.",
    '{"id": 8, "code": "print(1)", "timeout_s": "5"}': 'timeout_s is "5".',
    '{"id": 9, "code": "puts 1", "language": "ruby"}': 'language is "ruby". Snippets are Python.',
    '{"id": 10, "code": "print(\udcff)"}': "is not UTF-8.",
    "[" * 100_000: "is not JSON (maximum recursion depth exceeded",
    '{"id": 11, "timeout_s": ' + "9" * 5000 + "}": "is not JSON (Exceeds the limit (4300 digits)",
    "[]": "the line '[]\\n' has no id.",
}
ANSWERED = [
    ({"id": 20, "code": "a = 1\0"}, "error", "SyntaxError: source code string cannot contain null bytes"),
    ({"id": 21, "code": "print('\ud800')"}, "error", "invalid continuation byte"),
    ({"id": 22, "code": "while True: pass", "timeout_s": 1e-9}, "timeout", ""),
    ({"id": 23, "code": "", "language": "python"}, "ok", ""),
    ({"id": {"any": ["json"]}, "code": "import os; os._exit(0)"}, "ok", ""),
]


def test_bad_lines_are_refused_each_by_itself() -> None:
    lines = [*REFUSED, *(json.dumps(request) for request, _, _ in ANSWERED)]
    text = "\n".join(lines).encode(errors="surrogateescape")
    done = subprocess.run(EXEC, input=text, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, b"")
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == len(lines)
    errors = {reply["line"]: reply["error"] for reply in replies if "error" in reply}
    assert {reply["error_type"] for reply in replies if "error" in reply} == {"DataError"}
    assert sorted(errors) == list(range(1, len(REFUSED) + 1))
    for number, expected in enumerate(REFUSED.values(), start=1):
        assert expected in errors[number]
    for request, status, said in ANSWERED:
        (reply,) = [reply for reply in replies if reply["id"] == request["id"]]
        assert reply["status"] == status
        assert said in reply["stderr"]


@pytest.mark.parametrize(
    "options", [["--timeout-s", "-5"], ["--timeout-s", "nan"], ["--timeout-s", "1e9"], ["--memory-mib", "1"],
                ["--memory-mib", "99999999999"], ["--workers", "0"], ["--workers", "99999999"]], ids=" ".join,
)  # fmt: skip
def test_absurd_limits_are_refused(options) -> None:
    result = CliRunner().invoke(app, ["exec", *options], input="")
    assert result.exit_code == 2
    assert "Invalid value for" in result.stderr


def test_a_reader_that_leaves_ends_it_without_a_trace_of_ours() -> None:
    with subprocess.Popen(EXEC, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin
        assert run.stdout
        assert run.stderr
        run.stdin.write(b'{"id": 1, "code": "print(1)"}\n')
        run.stdin.flush()
        assert json.loads(run.stdout.readline())["stdout"] == "1\n"
        run.stdout.close()
        run.stdin.write(b'{"id": 2, "code": "print(2)"}\n')
        run.stdin.flush()
        assert run.wait(30) == 1
        assert run.stderr.read() == b""
