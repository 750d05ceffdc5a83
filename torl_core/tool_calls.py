"""The tool protocol in text and tokens: where a call ends, which code it asks for, and how its output is shown.

A call is a closed ```` ```python ```` block followed, anywhere later, by ```` ```output ```` (ToRL, arXiv 2503.23383).
All functions are pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal

from torl_core.config import ToolConfig
from torl_core.protocols import Codec
from torl_core.types import TokenIds, ToolCall

CALL_MARK = "```output"

_FENCE = "```"
_PYTHON_FENCE = "```python"
_TRACEBACK = "Traceback (most recent call last):"
_GROUP_TRACEBACK = "  + Exception Group Traceback (most recent call last):"


def call_end(token_ids: TokenIds, codec: Codec) -> int | None:
    """The smallest n such that the text of the first n tokens contains the call mark; None if no n does.

    However the mark is split, or merged with what stands around it, its n is found: no longer prefix loses the mark.
    """

    def complete(n: int) -> bool:
        return CALL_MARK in codec.decode(token_ids[:n])

    if not complete(len(token_ids)):
        return None
    if not complete(len(token_ids) - 1):  # what an engine that keeps its contract returns
        return len(token_ids)
    return bisect_left(range(len(token_ids)), True, key=complete)


def _scan(text: str) -> Iterator[tuple[Literal["block", "request"], str]]:
    """Closed ```` ```python ```` blocks, and call marks outside of open blocks, in the order they were completed.

    A block opens with a line that ends in the fence and closes with the next line that starts with three backticks (the
    call mark itself, too). So a fence or mark inside a line of code belongs to the code.
    """
    code: list[str] | None = None
    for line in text.split("\n"):
        if code is not None and not line.lstrip().startswith(_FENCE):
            code.append(line)
            continue
        if code is not None:
            yield "block", "\n".join(code)
        code = [] if line.rstrip().endswith(_PYTHON_FENCE) else None
        if CALL_MARK in line:
            yield "request", ""


def code_blocks(model_text: str) -> list[str]:
    """Code of every closed ```` ```python ```` block in text the model wrote."""
    return [code for kind, code in _scan(model_text) if kind == "block"]


def requested_code(model_text: str) -> list[str]:
    """Code of every call requested in text the model wrote since the last tool output.

    A request asks for the latest block since the request before it; a mark without a new block asks for nothing.
    """
    requests: list[str] = []
    latest: str | None = None
    for kind, code in _scan(model_text):
        if kind == "block":
            latest = code
        elif latest is not None:
            requests.append(latest)
            latest = None
    return requests


def observation(call: ToolCall, tool: ToolConfig) -> str:
    """What the model is shown of a call: its output, or the one line that says why it failed. At most the set length.

    The status alone decides which: output before a crash is no success, the word "Error" in output no failure.
    """
    if call.status != "ok":
        text = _failure(call)
    elif call.stdout.strip():
        text = call.stdout.rstrip()
    else:
        text = tool.empty_output
    return shorten(text, tool.observation_max_chars)


def framed(shown: str, after_mark: str) -> str:
    """`shown` as it goes behind the call mark, so that the context reads ```` ```output\\nOBSERVATION\\n```\\n ````.

    `after_mark` is what the completing token spelled beyond the mark: a newline sampled with it is not doubled.
    """
    lead = "" if after_mark.endswith("\n") else "\n"
    return f"{lead}{shown}\n{_FENCE}\n"


def shorten(text: str, max_chars: int) -> str:
    """`text` with its middle replaced by a mark, so that at most `max_chars` characters remain."""
    if len(text) <= max_chars:
        return text
    widest_mark = len(_cut_mark(len(text)))
    kept = max_chars - widest_mark
    if kept < 2:
        return text[:max_chars]
    tail = kept // 2
    head = kept - tail
    return text[:head] + _cut_mark(len(text) - kept) + text[-tail:]


def _cut_mark(characters: int) -> str:
    return f"\n... [{characters} characters left out] ...\n"


def _failure(call: ToolCall) -> str:
    match call.status:
        case "timeout":
            return "TimeoutError: the code did not finish within the time limit"
        case "memory":
            return "MemoryError: the code used more memory than allowed"
        case "output_limit":
            return "OutputLimitError: the code printed more than allowed"
        case "crash":
            signal = f" (signal {-call.exit_code})" if call.exit_code is not None and call.exit_code < 0 else ""
            return f"CrashError: the interpreter died while it ran the code{signal}"
        case _:
            return last_error_line(call.stderr) or f"SystemExit: {call.exit_code}"


def last_error_line(stderr: str) -> str:
    """The line that names the final exception, without its frames; "" for blank stderr.

    Python prints a chain of exceptions with the final one last, and a group indented behind `|`, its members deeper. A
    syntax error of the snippet itself has no traceback above it, and a message may have lines of its own.
    """
    lines = stderr.split("\n")
    headers = [i for i, line in enumerate(lines) if line in (_TRACEBACK, _GROUP_TRACEBACK)]
    if headers:
        margin = "  | " if lines[headers[-1]] == _GROUP_TRACEBACK else ""
        below = (line.removeprefix(margin) for line in lines[headers[-1] + 1 :] if line.startswith(margin))
        named = next((line for line in below if line.strip() and not line[0].isspace()), None)
        if named is not None:
            return named.rstrip()
    written = [line.rstrip() for line in lines if line.strip()]
    unindented = [line for line in written if not line[0].isspace()]
    return (unindented or written or [""])[-1].strip()
