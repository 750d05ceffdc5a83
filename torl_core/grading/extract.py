"""Which part of a response is graded: the last box in what the model wrote outside code and output blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BACKTICKS = re.compile(r"`{3,}")
_FENCE_LINE = re.compile(r"[\s>]*(`{3,}|~{3,})(.*)", re.DOTALL)
_TILDES_LINE = re.compile(r"[\s>]*(?:(?:[-*+]|\d{1,9}[.)])\s+)?(~{3,})(.*)", re.DOTALL)
_INFO = re.compile(r"[\w+-]*")
_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*(\{?)|\\.|[{}]", re.DOTALL)


def prose(text: str) -> str:
    """`text` without its fenced blocks, whether closed or not.

    As in CommonMark, a fence is three or more backticks or tildes, and one with at least as many of the same character
    closes it. Two things differ. A fence line with an info word inside a block (```` ```output ```` right under code)
    ends that block and opens the next one. Text that closes a fence and goes on (```` ```So the answer is ````) is
    prose from there on.
    """
    kept: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if "```" not in line and "~~~" not in line:
            kept.append("" if fence else line)
            continue
        outside, fence = _behind_closing(line, fence) if fence else _outside(line)
        kept.append(outside)
    return "\n".join(kept)


def _behind_closing(line: str, fence: str) -> tuple[str, str]:
    """What a line inside a block that `fence` opened has outside of blocks, and the fence that is open behind it."""
    match = _FENCE_LINE.fullmatch(line)
    if not match or not match[1].startswith(fence):
        return "", fence
    closing, info = match[1], match[2].strip()
    return ("", closing) if info and _INFO.fullmatch(info) else _outside(match[2])


def _outside(line: str) -> tuple[str, str]:
    """What a line that begins outside of blocks has outside of them, and the fence that is open behind it.

    Backticks open a block anywhere in the line, and may close it there; tildes stand alone with their info word.
    """
    tildes = _TILDES_LINE.fullmatch(line)
    if tildes and _INFO.fullmatch(tildes[2].strip()):
        return "", tildes[1]
    kept: list[str] = []
    position, fence = 0, ""
    for run in _BACKTICKS.finditer(line):
        if not fence:
            kept.append(line[position : run.start()])
            fence = run.group()
        elif run.group().startswith(fence):
            position, fence = run.end(), ""
    return " ".join(kept if fence else [*kept, line[position:]]), fence


def prose_of_segments(texts: Sequence[str]) -> str:
    """Prose of the segments the model wrote, each cleaned on its own, so no tool output can close or open a fence."""
    return "\n".join(prose(text) for text in texts)


def last_boxed(text: str) -> str | None:
    r"""Content of the last outermost `\boxed{...}` or `\fbox{...}`; one pass, so linear in the text.

    None when there is no box, or the last one never closes or has no braces. Escaped braces do not count, and
    neither does `\\boxed`, a line break in front of a word.
    """
    boxes: list[tuple[int, int, int]] = []  # start, content, end; end -1: never closed, or no braces
    open_braces: list[tuple[int, int] | None] = []
    for token in _BOX_TOKEN.finditer(text):
        lexeme = token.group()
        if token.group(1):
            open_braces.append((token.start(), token.end()))
        elif token.group(1) == "":
            boxes.append((token.start(), token.end(), -1))
        elif lexeme == "{":
            open_braces.append(None)
        elif lexeme == "}" and open_braces and (box := open_braces.pop()):
            start, content = box
            while boxes and boxes[-1][0] > start:
                boxes.pop()
            boxes.append((start, content, token.start()))
    boxes += [(*box, -1) for box in open_braces if box]
    _, content, end = max(boxes, default=(0, 0, -1))
    return text[content:end] if end >= 0 else None
