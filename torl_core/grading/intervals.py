"""Sets of real numbers as pieces of the line, and what is computed with them. Ends are scalars, compared exactly.

Functions raise Undefined where an end is no real constant, and TooLarge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from torl_core.grading.expression import Call, Expr, Number, Symbol, symbols
from torl_core.grading.values import real_value, same_value

INFINITY = Symbol("\\infty")
MINUS_INFINITY = Call("neg", (INFINITY,))
ZERO = Number(Fraction(0))


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval: each end and whether it belongs."""

    low: Expr
    low_closed: bool
    high: Expr
    high_closed: bool


LINE = Piece(MINUS_INFINITY, False, INFINITY, False)


def same_numbers(gold: Sequence[Piece], answer: Sequence[Piece]) -> bool:
    if not any(symbols(end) for piece in (*gold, *answer) for end in (piece.low, piece.high)):
        gold, answer = merged(gold), merged(answer)
        if not gold:
            return False  # nothing says that an empty interval was meant: `(6,0)` is a point
    left = list(answer)
    for piece in gold:
        match = next((i for i, other in enumerate(left) if _same_piece(piece, other)), None)
        if match is None:
            return False
        del left[match]
    return not left


def _same_piece(gold: Piece, answer: Piece) -> bool:
    return _same_end(gold.low, gold.low_closed, answer.low, answer.low_closed) and _same_end(
        gold.high, gold.high_closed, answer.high, answer.high_closed
    )


def _same_end(gold: Expr, gold_closed: bool, answer: Expr, answer_closed: bool) -> bool:
    infinite = sign_of_infinity(gold), sign_of_infinity(answer)
    if any(infinite):
        return infinite[0] == infinite[1]
    return gold_closed == answer_closed and same_value(gold, answer)


def sign_of_infinity(end: Expr) -> int:
    if end == MINUS_INFINITY:
        return -1
    return int(end == INFINITY)


def ordered(a: Expr, b: Expr) -> int:
    """-1, 0 or 1 as `a` is below, equal to or above `b`. Raises Undefined where they are no real constants."""
    infinite = sign_of_infinity(a), sign_of_infinity(b)
    if any(infinite):
        return (infinite[0] > infinite[1]) - (infinite[0] < infinite[1])
    if a == b or same_value(a, b):
        return 0
    left: Any = real_value(a)
    return -1 if left < real_value(b) else 1


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """The same numbers in as few pieces as possible, rising; pieces without any number are left out."""
    full = [piece for piece in pieces if holds_numbers(piece)]
    rising = sorted(full, key=cmp_to_key(_lower_end))
    out: list[Piece] = []
    for piece in rising:
        if not out or not _touch(out[-1], piece):
            out.append(piece)
            continue
        last = out[-1]
        order = ordered(last.high, piece.high)
        high = last if order > 0 else piece
        closed = last.high_closed or piece.high_closed if order == 0 else high.high_closed
        out[-1] = Piece(last.low, last.low_closed, high.high, closed)
    return out


def _lower_end(first: Piece, second: Piece) -> int:
    """The order of two pieces by where they begin; at one end the closed one is first."""
    return ordered(first.low, second.low) or second.low_closed - first.low_closed


def holds_numbers(piece: Piece) -> bool:
    order = ordered(piece.low, piece.high)
    return order < 0 or (order == 0 and piece.low_closed and piece.high_closed)


def _touch(first: Piece, second: Piece) -> bool:
    order = ordered(second.low, first.high)
    return order < 0 or (order == 0 and (second.low_closed or first.high_closed))


def union(gold: Sequence[Piece], other: Sequence[Piece]) -> tuple[Piece, ...]:
    return (*gold, *other)


def intersection(first: Sequence[Piece], second: Sequence[Piece]) -> tuple[Piece, ...]:
    found = []
    for a in first:
        for b in second:
            low, high = ordered(a.low, b.low), ordered(a.high, b.high)
            start = a if low > 0 else b
            end = a if high < 0 else b
            piece = Piece(
                start.low, a.low_closed and b.low_closed if low == 0 else start.low_closed,
                end.high, a.high_closed and b.high_closed if high == 0 else end.high_closed,
            )  # fmt: skip
            if holds_numbers(piece):
                found.append(piece)
    return tuple(found)


def without(whole: Sequence[Piece], removed: Sequence[Piece]) -> tuple[Piece, ...]:
    for piece in removed:
        below = Piece(MINUS_INFINITY, False, piece.low, not piece.low_closed)
        above = Piece(piece.high, not piece.high_closed, INFINITY, False)
        whole = intersection(whole, [end for end in (below, above) if holds_numbers(end)])
    return tuple(whole)


def without_point(pieces: Sequence[Piece], point: Expr) -> tuple[Piece, ...]:
    if symbols(point):
        return (Piece(MINUS_INFINITY, False, point, False), Piece(point, False, INFINITY, False))
    return without(pieces, [Piece(point, True, point, True)])
