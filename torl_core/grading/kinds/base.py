"""What every kind of answer is made of: its shape, how it is read from tokens, and when two answers are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torl_core.grading.expression import Unreadable
from torl_core.grading.tokens import Tokens

MAX_ITEMS = 100


class Answer:
    """The shape of one answer. Every kind has frozen dataclasses of its own below this class."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OneOf(Answer):
    """An answer whose spelling has several readings. It is the same as another if any reading is."""

    readings: tuple[Answer, ...]


class Kinds(Protocol):
    """The table of all kinds, for the parts of an answer that may be of any kind."""

    def read(self, tokens: Tokens) -> Answer:
        """Raises Unreadable."""

    def same(self, gold: Answer, answer: Answer) -> bool:
        """Raises TooLarge, Undefined."""


class Kind(Protocol):
    """One kind of answer: a module of this package."""

    def read(self, tokens: Tokens, kinds: Kinds) -> Answer | None:
        """The answer if it is of this kind, None if it is of another. Raises Unreadable where it is of none."""

    def same(self, gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
        """Whether the two are the same answer; None if this kind has no say. Raises TooLarge, Undefined."""


def no_say(gold: Answer, answer: Answer, kinds: Kinds) -> None:
    """What a kind has for `same` that only reads: what it reads is an answer of another kind."""


def parts_of(parts: list[Tokens]) -> list[Tokens]:
    """`parts` without empty ones. Raises Unreadable when they are too many to be compared one with another."""
    if len(parts) > MAX_ITEMS:
        raise Unreadable(f"more than {MAX_ITEMS} parts")
    return [part for part in parts if part]
