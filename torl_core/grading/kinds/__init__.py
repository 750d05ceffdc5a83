"""The kinds of answers, one file each, and the table of them.

Reading asks each kind in turn, from the loosest notation to the tightest: a list is split before an equation, and an
equation before a sum. Comparing asks them in the same order; the first that has a say decides.
"""

from __future__ import annotations

from torl_core.grading.expression import Unreadable
from torl_core.grading.kinds import (
    based,
    bracket,
    cases,
    choice,
    clock,
    compound,
    equation,
    family,
    inequality,
    letters,
    listing,
    logic,
    matrix,
    narration,
    number_name,
    quantity,
    ratio,
    region,
    residue,
    words,
)
from torl_core.grading.kinds.base import Answer, Kind, OneOf
from torl_core.grading.tokens import Tokens, closing, is_bare_set

KINDS: tuple[Kind, ...] = (
    cases, number_name, narration, clock, compound, choice, letters, residue, family, inequality, region, listing,
    equation, ratio, logic, based, matrix, bracket, quantity, words,
)  # fmt: skip


class Table:
    """All kinds together, as `base.Kinds`. It remembers what it read, so that no nesting is read twice."""

    def __init__(self) -> None:
        self._read: dict[Tokens, Answer | None] = {}

    def read(self, tokens: Tokens) -> Answer:
        """The answer that the tokens spell. Raises Unreadable."""
        tokens = _trimmed(tokens)
        if tokens not in self._read:
            self._read[tokens] = None  # what fails is not tried again, nor what would read itself
            self._read[tokens] = self._by_kind(tokens)
        answer = self._read[tokens]
        if answer is None:
            raise Unreadable("no kind of answer")
        return answer

    def _by_kind(self, tokens: Tokens) -> Answer | None:
        for kind in KINDS if tokens else ():
            if (answer := kind.read(tokens, self)) is not None:
                return answer
        return None

    def same(self, gold: Answer, answer: Answer) -> bool:
        """Whether the two are the same answer. Raises TooLarge, Undefined."""
        if isinstance(gold, OneOf):
            return any(self.same(reading, answer) for reading in gold.readings)
        if isinstance(answer, OneOf):
            return any(self.same(gold, reading) for reading in answer.readings)
        for kind in KINDS:
            if (verdict := kind.same(gold, answer, self)) is not None:
                return verdict
        return False


def _trimmed(tokens: Tokens) -> Tokens:
    """Without closing punctuation, an approximation behind the value, and braces that only group."""
    while tokens and tokens[-1] in (".", ",", ";"):
        tokens = tokens[:-1]
    if "\\approx" in tokens[1:]:
        cut = tokens.index("\\approx", 1)
        tokens = tokens[: cut - 1] if tokens[cut - 1] == "(" and tokens[-1] == ")" else tokens[:cut]
    if tokens[:1] == ("{",) and closing(tokens, 0) == len(tokens) - 1 and not is_bare_set(tokens):
        return _trimmed(tokens[1:-1])
    return tokens
