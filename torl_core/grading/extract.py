"""Which part of a response is graded: the last box in what the model wrote outside code and output blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCE = "```"
_INFO = re.compile(r"[\w+-]*")
_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*(\{?)|\\.|[{}]", re.DOTALL)


def prose(text: str) -> str:
    """`text` without its fenced blocks, whether closed or not.

    A fence line with an info word inside a block (```` ```output ```` right under code) ends that block and opens the
    next one. Text that closes a fence and goes on (```` ```So the answer is ````) is prose from there on.
    """
    kept: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside:
            tail = line.lstrip().removeprefix(_FENCE)
            if line.lstrip().startswith(_FENCE) and (not tail.strip() or not _INFO.fullmatch(tail.strip())):
                inside = False
                kept.append(tail)
            continue
        outside, inside = _outside(line)
        kept.append(outside)
    return "\n".join(kept)


def _outside(line: str) -> tuple[str, bool]:
    """The part of one line that is outside fences, and whether a block is still open behind it."""
    parts = line.split(_FENCE)
    return " ".join(parts[::2]), len(parts) % 2 == 0


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
