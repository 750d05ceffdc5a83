r"""Inequalities: `x > 2`, `1 < x \leq 3`, `|x-2| < 3`, `x \neq 1, 2`, and several joined by `and`, `or` or commas.

Those of one unknown that can be solved for it are read as regions. Two others agree when they differ by a positive
factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Symbol, Unreadable, put, symbols
from torl_core.grading.intervals import (
    INFINITY,
    LINE,
    MINUS_INFINITY,
    ZERO,
    Piece,
    intersection,
    ordered,
    sign_of_infinity,
    without_point,
)
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.equation import Assignment
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.kinds.region import Region, Together
from torl_core.grading.tokens import NUMBER_SETS, Tokens, closing, split
from torl_core.grading.values import difference, proportional, same_value


@dataclass(frozen=True, slots=True)
class Inequality(Answer):
    """Sides with `<` or `\\leq` between them (written so that they rise), or two sides with `\\neq`."""

    sides: tuple[Expr, ...]
    ops: tuple[str, ...]


_TWO = Number(Fraction(2))
_RISING = {"<": "<", "\\leq": "\\leq", ">": "<", "\\geq": "\\leq", "\\neq": "\\neq"}
RELATIONS = frozenset(_RISING)
_AND, _OR = ("~and", "\\wedge"), ("~or", "\\vee")


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """Relations, alone or joined; None where other things stand among them."""
    if RELATIONS.isdisjoint(tokens) or tokens[0] in NUMBER_SETS:
        return None
    for separators, joined in ((_OR, "or"), (_AND, "and"), ((",", ";"), ",")):
        parts = [part for part in split(tokens, separators) if part]
        if len(parts) > 1:
            return _together([_part(part, parts[0], kinds) for part in parts], joined)
    if len(split(tokens, ("\\cup",))) > 1 and all(any(t in RELATIONS for t in p) for p in split(tokens, ("\\cup",))):
        return _together([kinds.read(part) for part in split(tokens, ("\\cup",))], "or")
    return _relation(tokens, kinds)


def _part(part: Tokens, first: Tokens, kinds: Kinds) -> Answer | None:
    r"""One of several relations. In `x \neq 1, 2` the second is short for another of the same."""
    if not any(token in RELATIONS for token in part) and "\\neq" in first and "=" not in part:
        part = (*first[: first.index("\\neq") + 1], *part)
    answer = kinds.read(part)
    if isinstance(answer, Assignment) and isinstance(answer.value, Quantity) and not symbols(answer.value.tree):
        point = answer.value.tree  # x = 0 or x > 1
        return Region((Piece(point, True, point, True),), "".join(answer.name))
    return answer if isinstance(answer, Region | Inequality | Together) else None


def _together(parts: list[Answer | None], joined: str) -> Answer | None:
    answers = [part for part in parts if part is not None]
    if len(answers) < len(parts):
        return None
    regions = [part for part in answers if isinstance(part, Region)]
    if len(regions) == len(parts) and len({part.name for part in regions}) == 1:
        if joined == "or":
            return Region(sum((part.pieces for part in regions), start=()), regions[0].name)
        both = regions[0]
        for other in regions[1:]:
            both = Region(intersection(both.pieces, other.pieces), both.name)
        if joined == "," and not both.pieces:
            return Region(sum((part.pieces for part in regions), start=()), regions[0].name)
        return both
    return Together("and" if joined == "," else joined, tuple(answers))


def _relation(tokens: Tokens, kinds: Kinds) -> Answer | None:
    parts = split(tokens, tuple(RELATIONS))
    if len(parts) < 2:
        return None
    if "\\pm" in tokens:
        return _together([kinds.read(_signed(tokens, sign)) for sign in "+-"], "and") if "\\neq" in tokens else None
    marks = _marks(tokens)
    if not all(parts) or len(parts) != len(marks) + 1:
        raise Unreadable("a relation without two sides")
    if "\\neq" in marks and len(marks) > 1:
        raise Unreadable("a chain with a relation that has no direction")
    sides = [_side(part, kinds) for part in parts]
    if any(mark in (">", "\\geq") for mark in marks):
        if any(mark in ("<", "\\leq") for mark in marks):
            raise Unreadable("inequalities of both directions")
        sides.reverse()
        marks.reverse()
    return _bounded(Inequality(tuple(sides), tuple(_RISING[mark] for mark in marks)))


def _signed(tokens: Tokens, sign: str) -> Tokens:
    return tuple(sign if token == "\\pm" else token for token in tokens)


def _marks(tokens: Tokens) -> list[str]:
    depth = 0
    marks = []
    for i, token in enumerate(tokens):
        depth += closing(tokens, i) > i
        depth -= token in (")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil")
        if depth == 0 and token in RELATIONS:
            marks.append(token)
    return marks


def _side(tokens: Tokens, kinds: Kinds) -> Expr:
    answer = kinds.read(tokens)
    if not isinstance(answer, Quantity):
        raise Unreadable("a side that is not scalar")
    return answer.tree


def _bounded(relation: Inequality) -> Answer:
    """The region of an inequality that bounds one unknown by constants; else the inequality itself."""
    sides, ops = relation.sides, relation.ops
    closed = [op == "\\leq" for op in ops]
    subject = _subject(relation)
    if subject is None and (solved := _solved(relation)):
        return solved
    match sides, ops:
        case (Call(op="abs", args=(Symbol(name=name),)), bound), ("<" | "\\leq",) if not symbols(bound):
            return Region((Piece(Call("neg", (bound,)), closed[0], bound, closed[0]),), name)
        case (bound, Call(op="abs", args=(Symbol(name=name),))), ("<" | "\\leq",) if not symbols(bound):
            outside = (
                Piece(MINUS_INFINITY, False, Call("neg", (bound,)), closed[0]),
                Piece(bound, closed[0], INFINITY, False),
            )
            return Region(outside, name)
    if subject is None:
        return relation
    name = subject.name if isinstance(subject, Symbol) else repr(subject)
    if len(sides) == 3:
        return Region((Piece(sides[0], closed[0], sides[2], closed[1]),), name)
    low, high = sides
    if ops == ("\\neq",):
        return Region(without_point((LINE,), low if high is subject else high), name)
    if high is subject:
        return Region((Piece(low, closed[0], INFINITY, False),), name)
    return Region((Piece(MINUS_INFINITY, False, high, closed[0]),), name)


def _solved(relation: Inequality) -> Region | None:
    """The region of an inequality of one unknown that is linear in it, in its absolute value or in a square."""
    sides, ops = _unsquared(relation.sides), relation.ops
    names = frozenset().union(*map(symbols, sides))
    if len(names) != 1 or len(sides) > 3 or "\\neq" in ops:
        return None
    (name,) = names
    if len(sides) == 3:
        middle = sides[1]
        low, high = _half_line(sides[0], middle, ops[0], name), _half_line(middle, sides[2], ops[1], name)
        if symbols(sides[0]) or symbols(sides[2]) or not low or not high:
            return None
        return Region(intersection((low,), (high,)), name)
    if len(sides) == 2 and isinstance(sides[0], Call) and sides[0].op == "abs" and not symbols(sides[1]):
        inside = sides[0].args[0]
        return _solved(Inequality((Call("neg", (sides[1],)), inside, sides[1]), (ops[0], ops[0])))
    if len(sides) == 2 and isinstance(sides[1], Call) and sides[1].op == "abs" and not symbols(sides[0]):
        inside, bound = sides[1].args[0], sides[0]
        above, below = _half_line(bound, inside, ops[0], name), _half_line(inside, Call("neg", (bound,)), ops[0], name)
        return Region((above, below), name) if above and below else None
    piece = _half_line(sides[0], sides[1], ops[0], name)
    return Region((piece,), name) if piece else None


def _unsquared(sides: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """`|x| < 3` of `x^2 < 9`."""
    match sides:
        case (Call(op="^", args=(base, Number(value=2))), bound) if not symbols(bound) and ordered(bound, ZERO) >= 0:
            return Call("abs", (base,)), Call("root", (bound, _TWO))
        case (bound, Call(op="^", args=(base, Number(value=2)))) if not symbols(bound) and ordered(bound, ZERO) >= 0:
            return Call("root", (bound, _TWO)), Call("abs", (base,))
    return sides


def _half_line(low: Expr, high: Expr, op: str, name: str) -> Piece | None:
    """Where `low < high`, both linear in the variable; None for anything else."""
    rising = difference(high, low)
    at = [put(rising, name, Number(Fraction(x))) for x in (0, 1, 2)]
    slope = difference(at[1], at[0])
    if not same_value(slope, difference(at[2], at[1])) or not same_value(
        rising, Call("+", (at[0], Call("*", (slope, Symbol(name)))))
    ):
        return None
    order = ordered(slope, ZERO)
    end = Call("neg", (Call("/", (at[0], slope)),))
    closed = op == "\\leq"
    if order == 0:
        return None
    return Piece(end, closed, INFINITY, False) if order > 0 else Piece(MINUS_INFINITY, False, end, closed)


def _subject(relation: Inequality) -> Expr | None:
    """What an inequality bounds by constants: the middle of a chain of three, or the one side with a variable."""
    if len(relation.sides) == 3:
        low, middle, high = relation.sides
        ends = symbols(low) | symbols(high)
        return (
            middle
            if symbols(middle) and not (ends if not isinstance(middle, Symbol) else ends & symbols(middle))
            else None
        )
    if len(relation.sides) > 3:
        return None
    with_variables = [side for side in relation.sides if symbols(side)]
    if len(with_variables) != 1:
        return None
    (side,) = with_variables
    return side if isinstance(side, Symbol) or getattr(side, "op", "").endswith("()") else None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Inequality(), Inequality():
            return _same_inequality(gold, answer)
        case (Inequality() as relation, Region() as region) | (Region() as region, Inequality() as relation):
            bound = _as_inequality(region)
            return bound is not None and _same_inequality(relation, bound)
        case (Inequality(), _) | (_, Inequality()):
            return False
    return None


def _same_inequality(gold: Inequality, answer: Inequality) -> bool:
    if gold.ops != answer.ops:
        return False
    if len(gold.ops) > 1:
        return all(same_value(a, b) for a, b in zip(gold.sides, answer.sides, strict=True))
    sides = difference(*gold.sides), difference(*answer.sides)
    return proportional(*sides, positive=gold.ops != ("\\neq",))


def _as_inequality(region: Region) -> Inequality | None:
    """`x < 3` of the region below 3."""
    if len(region.pieces) != 1 or not region.name:
        return None
    (piece,), name = region.pieces, Symbol(region.name)
    if sign_of_infinity(piece.low) and not sign_of_infinity(piece.high):
        return Inequality((name, piece.high), ("\\leq" if piece.high_closed else "<",))
    if sign_of_infinity(piece.high) and not sign_of_infinity(piece.low):
        return Inequality((piece.low, name), ("\\leq" if piece.low_closed else "<",))
    return None
