"""The letters of multiple choice: `B`, `(B)`, `Option B`, `D. 2-i`.

A letter may stand with its content. The letter alone or the content alone is enough, and two letters must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from torl_core.grading.expression import Symbol, Unreadable
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.bracket import letter
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.kinds.words import Words
from torl_core.grading.tokens import WORD, Tokens, split, vocabulary


@dataclass(frozen=True, slots=True)
class Choice(Answer):
    """A letter with its content; no content where it could not be read."""

    letter: str
    content: Answer | None


LETTERS = "ABCDEFGHIJ"
_LEAD = vocabulary(
    """
    option choice answer choose letter the correct is statement
    """,
    prefix=WORD,
)
_OPERATORS = frozenset(
    ["+", "-", "^", "=", ",", "/", "\\cdot", "\\times", "\\cup", "\\cap", "_", "'", "\\in", ":", ";", "~and", "~or"]
)


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    start = next((i for i, token in enumerate(tokens) if token.casefold() not in _LEAD), len(tokens))
    label, content = _labelled(tokens[start:])
    if not label and start and len(tokens) == start + 1 and tokens[start] in LETTERS:
        label = tokens[start]  # `Option B`
    if not label:
        return None
    if not content:
        return Quantity(Symbol(label))
    try:
        return Choice(label, kinds.read(content))
    except Unreadable:
        return Choice(label, None)


def _labelled(tokens: Tokens) -> tuple[str, Tokens]:
    """The letter and the content behind it."""
    if len(tokens) >= 3 and tokens[0] == "(" and tokens[1] in LETTERS and tokens[2] == ")":
        content = tokens[3:]
        ambiguous = content and (content[0] in _OPERATORS or (content[0] == "(" and len(content) > 2))
        return ("", ()) if ambiguous and content[0] != "-" else (tokens[1], content)
    if len(tokens) >= 2 and tokens[0] in LETTERS and len(tokens[0]) == 1 and tokens[1] in (".", ")", ":"):
        content = tokens[2:]
        return ("", ()) if tokens[1] == ":" and _is_ratio(content) else (tokens[0], content)
    return ("", ())


def _is_ratio(content: Tokens) -> bool:
    """Whether `A:` goes on as `A:B` or `A:B = 3:5`."""
    sides = split(content, ("=",))
    return all(token == ":" or (len(token) == 1 and token.isalpha()) for token in sides[0]) and (
        len(sides) == 1 or ":" in sides[1]
    )


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Choice(), Choice():
            return gold.letter == answer.letter and not _conflict(gold.content, answer.content, kinds)
        case Choice(), _:
            return _same_as(gold, answer, kinds, choice_is_gold=True)
        case _, Choice():
            return _same_as(answer, gold, kinds, choice_is_gold=False)
    return None


def _conflict(gold: Answer | None, answer: Answer | None, kinds: Kinds) -> bool:
    """Whether both contents are known to say different things; more words or fewer are no such thing."""
    if gold is None or answer is None:
        return False
    if isinstance(gold, Words) and isinstance(answer, Words):
        return not (set(gold.words) <= set(answer.words) or set(answer.words) <= set(gold.words))
    return not kinds.same(gold, answer)


def _same_as(choice: Choice, other: Answer, kinds: Kinds, choice_is_gold: bool) -> bool:
    if letter(other) == choice.letter:
        return True
    if choice.content is None:
        return False
    return kinds.same(choice.content, other) if choice_is_gold else kinds.same(other, choice.content)
