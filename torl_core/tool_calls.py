"""The tool protocol in text and tokens: where a call ends, which code it asks for, and how its output is shown.

A call is a closed Python block followed, anywhere later, by ```` ```output ```` (ToRL, arXiv 2503.23383). The dialect
says how a block of Python may be spelled: 1 knows ```` ```python ```` alone, 2 knows every spelling that can only mean
Python. All functions are pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from torl_core.config import ToolConfig
from torl_core.protocols import Codec
from torl_core.types import TokenIds, ToolCall

CALL_MARK = "```output"

_FENCE = "```"
_TILDES = "~~~"
_TRACEBACK = "Traceback (most recent call last):"
_GROUP_TRACEBACK = "  + Exception Group Traceback (most recent call last):"

_PYTHON_FENCE = re.compile(r"(```|~~~)[ \t]*py(?:thon)?(?:3(?:\.\d+)?)?\s*$", re.IGNORECASE)
"""How a line ends that opens a block in dialect 2."""

_MARGIN = re.compile(r"(?:[ \t]|[-*+][ \t]|\d{1,9}[.)][ \t])*")
"""What may stand before an indented fence: blanks and the markers of lists."""

_TAB_COLUMNS = 4

_LIKE_A_MARK = re.compile(r"(?:```|~~~)[ \t]*output", re.IGNORECASE)
"""The call mark, and what a reader would take for it."""


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text that the model wrote between two tool outputs holds.

    `blocks` has the code of every closed Python block. `requests` has, for each call that is requested, the blocks that
    were closed since the request before it, at least one. `unrecognised` counts what looks like a request and is none:
    a call mark without a new block before it, and other spellings of the mark.
    """

    blocks: tuple[str, ...] = ()
    requests: tuple[tuple[str, ...], ...] = ()
    unrecognised: int = 0


@dataclass(frozen=True, slots=True)
class _Fence:
    """The fence that opened a block: three backticks or tildes, and how many columns stand before them."""

    mark: str
    columns: int = 0

    def is_closed_by(self, line: str) -> bool:
        return line.lstrip().startswith((self.mark, CALL_MARK))

    def code(self, lines: list[str]) -> str:
        """The lines without the fence's own indentation, as far as the first of them has it (as in CommonMark).

        A block whose code stands further left than its fence thus keeps its inner indentation.
        """
        if not self.columns:
            return "\n".join(lines)
        spaced = [_without_leading_tabs(line) for line in lines]
        first = next((line for line in spaced if line.strip()), "")
        width = min(self.columns, _blanks(first))
        return "\n".join(line[min(width, _blanks(line)) :] for line in spaced)


def read(model_text: str, dialect: int) -> Reading:
    """Find the blocks and requests of a text, in one pass over its lines.

    A block opens with a line that ends in the fence and closes with the next line that starts with its three backticks
    (or tildes), or with the call mark. So a fence or mark inside a line of code belongs to the code.
    """
    if _FENCE not in model_text and _TILDES not in model_text:
        return Reading()
    blocks: list[str] = []
    requests: list[tuple[str, ...]] = []
    asked = unrecognised = 0
    fence: _Fence | None = None
    code: list[str] = []
    for line in model_text.split("\n"):
        if fence is not None:
            if not fence.is_closed_by(line):
                code.append(line)
                continue
            blocks.append(fence.code(code))
        fence, code = _opened_by(line, dialect), []
        marks = len(_LIKE_A_MARK.findall(line))
        if CALL_MARK in line and asked < len(blocks):
            requests.append(tuple(blocks[asked:]))
            asked = len(blocks)
            marks -= 1
        unrecognised += marks
    return Reading(tuple(blocks), tuple(requests), unrecognised)


def code_of(blocks: Sequence[str], tool: ToolConfig) -> tuple[str, int]:
    """The code that a request for `blocks` runs, and how many of them it is made of."""
    chosen = blocks if tool.blocks == "joined" else blocks[-1:]
    return "\n".join(chosen), len(chosen)


def _opened_by(line: str, dialect: int) -> _Fence | None:
    if _FENCE not in line and _TILDES not in line:
        return None
    if dialect == 1:
        return _Fence(_FENCE) if line.rstrip().endswith("```python") else None
    found = _PYTHON_FENCE.search(line)
    if found is None:
        return None
    margin = _without_leading_tabs(line[: found.start()].rstrip(found[1]))
    return _Fence(found[1], len(margin) if _MARGIN.fullmatch(margin) else 0)


def _without_leading_tabs(line: str) -> str:
    """`line` with the tabs of its indentation as blanks."""
    blanks = _blanks(line)
    return line[:blanks].expandtabs(_TAB_COLUMNS) + line[blanks:]


def _blanks(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def observation(call: ToolCall, tool: ToolConfig, codec: Codec) -> str:
    """What the model is shown of a call, at most as long as the settings allow."""
    text = result(call, tool)
    if tool.observation_max_chars is not None:
        return _shorten_chars(text, tool.observation_max_chars)
    if (ends := tool.observation_ends_chars) and len(text) > 2 * ends:
        text = f"{text[:ends]}...{text[-ends:]}"
    return shorten(text, tool.observation_max_tokens, codec)


def result(call: ToolCall, tool: ToolConfig) -> str:
    """A call's output, or how it failed, at its full length.

    The status alone decides which: output before a crash is no success, the word "Error" in output no failure.
    """
    printed = call.stdout.rstrip()
    if call.status == "ok":
        return printed or tool.empty_output
    failure = _failure(call)
    if tool.error_output == "output_and_traceback" and call.status == "error":
        failure = call.stderr.rstrip() or failure
    alone = tool.error_output == "last_line" and (call.status != "output_limit" or tool.dialect == 1)
    return failure if alone or not printed else f"{printed}\n{failure}"


def framed(shown: str, after_mark: str) -> str:
    """`shown` as it goes behind the call mark, so that the context reads ```` ```output\\nOBSERVATION\\n```\\n ````.

    `after_mark` is what the completing token spelled beyond the mark: a newline sampled with it is not doubled.
    """
    lead = "" if after_mark.endswith("\n") else "\n"
    return f"{lead}{shown}\n{_FENCE}\n"


_CHARS_PER_TOKEN = 8
"""More than text has on average. Of a text that is longer than the limit allows by this, only the ends are encoded."""


def shorten(text: str, max_tokens: int, codec: Codec) -> str:
    """`text` with its middle replaced by a note, so that it encodes to at most `max_tokens` tokens.

    It is cut where tokens meet, but never within a character.
    """
    end = max_tokens * _CHARS_PER_TOKEN
    clipped = text if len(text) <= 2 * end else text[:end] + text[-end:]
    ids = codec.encode(clipped)
    if len(ids) <= max_tokens and clipped is text:
        return text
    budget = max_tokens
    while True:
        short = _cut(ids, budget, len(text) - len(clipped), codec)
        over = len(codec.encode(short)) - max_tokens  # tokens may meet in other ways where text was left out
        if over <= 0:
            return short
        budget = max(0, budget - over)


def _cut(ids: TokenIds, budget: int, clipped: int, codec: Codec) -> str:
    """The text of about `budget` tokens: both ends of `ids` and a note between, or their start where no note fits.

    `clipped` characters were left out between the ends already.
    """
    whole = codec.decode(ids)
    kept = min(budget - len(codec.encode(_cut_note(clipped + len(whole)))), len(ids))
    if kept < 2:
        return _common_start(codec.decode(ids[:budget]), whole)
    head = _common_start(codec.decode(ids[: kept - kept // 2]), whole)
    tail = _common_start(codec.decode(ids[-(kept // 2) :])[::-1], whole[::-1])[::-1]
    return head + _cut_note(clipped + len(whole) - len(head) - len(tail)) + tail


def _common_start(part: str, whole: str) -> str:
    """`part` as far as `whole` begins with it: its last token may end within a character."""
    differ = next((i for i, (a, b) in enumerate(zip(part, whole, strict=False)) if a != b), len(part))
    return part[:differ]


def _shorten_chars(text: str, max_chars: int) -> str:
    """What dialect 1 does: the middle is replaced by a note, so that at most `max_chars` characters remain."""
    if len(text) <= max_chars:
        return text
    kept = max_chars - len(_cut_note(len(text)))
    if kept < 2:
        return text[:max_chars]
    tail = kept // 2
    return text[: kept - tail] + _cut_note(len(text) - kept) + text[-tail:]


def _cut_note(characters: int) -> str:
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
