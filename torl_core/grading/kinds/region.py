r"""Sets of real numbers: intervals, unions, inequalities, `x \neq 1`, the real numbers without some, set-builders.

Two regions are the same when they hold the same numbers: what touches is merged, `x > 1, x < 3` is `(1, 3)`. Regions
whose ends have variables are compared piece by piece. The name of the unknown may be missing on one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from torl_core.grading.expression import Call, Expr, Number, Symbol, Unreadable, put, symbols
from torl_core.grading.kinds.base import Answer, Kinds, OneOf
from torl_core.grading.kinds.bracket import BRACKETS, Group, same_in_any_order, same_in_order
from torl_core.grading.kinds.equation import Assignment, Equation
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import NUMBER_SETS, Tokens, closing, split
from torl_core.grading.values import difference, proportional, real_value, same_value


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval: each end and whether it belongs."""

    low: Expr
    low_closed: bool
    high: Expr
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region(Answer):
    """The numbers of all pieces. `name` is the unknown, empty where the notation has none."""

    pieces: tuple[Piece, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Inequality(Answer):
    """Sides with `<` or `\\leq` between them (written so that they rise), or two sides with `\\neq`."""

    sides: tuple[Expr, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Together(Answer):
    """Relations that hold together (`joined` is `and`) or of which one holds (`or`), in several unknowns."""

    joined: str
    parts: tuple[Answer, ...]


_INFINITY = Symbol("\\infty")
_MINUS_INFINITY = Call("neg", (_INFINITY,))
_LINE = Piece(_MINUS_INFINITY, False, _INFINITY, False)
_REALS = Quantity(Symbol("\\reals"))
_ZERO = Number(Fraction(0))
_RISING = {"<": "<", "\\leq": "\\leq", ">": "<", "\\geq": "\\leq", "\\neq": "\\neq"}
RELATIONS = frozenset(_RISING)
_AND, _OR = ("~and", "\\wedge", ",", ";", "\\cap"), ("~or", "\\vee", "\\cup")


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if found := _positive(tokens):
        return found
    if any(token in RELATIONS for token in tokens) and (found := _joined(tokens, kinds)):
        return found
    if (found := _set_builder(tokens, kinds)) or (found := _member(tokens, kinds)):
        return found
    return _operated(tokens, kinds)


def _joined(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """Relations, alone or joined by `and`, `or` or commas; None where other things stand among them."""
    for separators, joined in ((_OR[:2], "or"), (_AND[:2], "and"), ((",", ";"), ",")):
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
            both = Region(_intersection(both.pieces, other.pieces), both.name)
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
                Piece(_MINUS_INFINITY, False, Call("neg", (bound,)), closed[0]),
                Piece(bound, closed[0], _INFINITY, False),
            )
            return Region(outside, name)
    if subject is None:
        return relation
    name = subject.name if isinstance(subject, Symbol) else repr(subject)
    if len(sides) == 3:
        return Region((Piece(sides[0], closed[0], sides[2], closed[1]),), name)
    low, high = sides
    if ops == ("\\neq",):
        return Region(_without((_LINE,), low if high is subject else high), name)
    if high is subject:
        return Region((Piece(low, closed[0], _INFINITY, False),), name)
    return Region((Piece(_MINUS_INFINITY, False, high, closed[0]),), name)


def _solved(relation: Inequality) -> Region | None:
    """The region of an inequality of one unknown that is linear in it or in its absolute value, as in `|x-2| < 3`."""
    sides, ops = relation.sides, relation.ops
    names = frozenset().union(*map(symbols, sides))
    if len(names) != 1 or len(sides) > 3 or "\\neq" in ops:
        return None
    (name,) = names
    if len(sides) == 3:
        middle = sides[1]
        low, high = _half_line(sides[0], middle, ops[0], name), _half_line(middle, sides[2], ops[1], name)
        if symbols(sides[0]) or symbols(sides[2]) or not low or not high:
            return None
        return Region(_intersection((low,), (high,)), name)
    if len(sides) == 2 and isinstance(sides[0], Call) and sides[0].op == "abs" and not symbols(sides[1]):
        inside = sides[0].args[0]
        return _solved(Inequality((Call("neg", (sides[1],)), inside, sides[1]), (ops[0], ops[0])))
    if len(sides) == 2 and isinstance(sides[1], Call) and sides[1].op == "abs" and not symbols(sides[0]):
        inside, bound = sides[1].args[0], sides[0]
        above, below = _half_line(bound, inside, ops[0], name), _half_line(inside, Call("neg", (bound,)), ops[0], name)
        return Region((above, below), name) if above and below else None
    piece = _half_line(sides[0], sides[1], ops[0], name)
    return Region((piece,), name) if piece else None


def _half_line(low: Expr, high: Expr, op: str, name: str) -> Piece | None:
    """Where `low < high`, both linear in the variable; None for anything else."""
    rising = difference(high, low)
    at = [put(rising, name, Number(Fraction(x))) for x in (0, 1, 2)]
    slope = difference(at[1], at[0])
    if not same_value(slope, difference(at[2], at[1])) or not same_value(
        rising, Call("+", (at[0], Call("*", (slope, Symbol(name)))))
    ):
        return None
    order = _order(slope, _ZERO)
    end = Call("neg", (Call("/", (at[0], slope)),))
    closed = op == "\\leq"
    if order == 0:
        return None
    return Piece(end, closed, _INFINITY, False) if order > 0 else Piece(_MINUS_INFINITY, False, end, closed)


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


def _set_builder(tokens: Tokens, kinds: Kinds) -> Answer | None:
    r"""The condition of `\{x \mid ...\}`."""
    if tokens[0] not in ("\\{", "{") or closing(tokens, 0) != len(tokens) - 1:
        return None
    inner = tokens[1:-1]
    cut = next((i for i, token in enumerate(inner) if token in ("|", ":")), 0)
    if not cut or not inner[cut + 1 :]:
        return None
    condition = kinds.read(inner[cut + 1 :])
    if isinstance(condition, Assignment | Equation) and len(inner[:cut]) == 1:
        raise Unreadable("a set of values that an equation describes")
    within = split(inner[:cut], ("\\in",))
    if len(within) == 2 and within[1] != ("\\reals",):
        return Together("and", (kinds.read(within[1]), condition))
    return condition


def _member(tokens: Tokens, kinds: Kinds) -> Answer | None:
    r"""`x \in (0,1)`: the region, with the name of the unknown; `x \in \{1,2\}`: the list."""
    parts = split(tokens, ("\\in",))
    if (
        len(parts) != 2
        or not all(parts)
        or not all((len(t) == 1 and t.isalpha()) or t in "_'{}()," or t.isdigit() or t[0] == "\\" for t in parts[0])
    ):
        return None
    if not _is_set(parts[1]):
        return None
    inside = kinds.read(parts[1])
    region = as_region(inside)
    name = "".join(parts[0])
    return Region(region.pieces, name) if region and not isinstance(inside, Group) else _named(inside, region, name)


def _named(inside: Answer, region: Region | None, name: str) -> Answer:
    if isinstance(inside, Group) and inside.kind in BRACKETS and region:
        return Region(region.pieces, name)
    return inside


def _is_set(tokens: Tokens) -> bool:
    return tokens[0] in ("(", "[", "\\{", "{", "\\emptyset", "]") or any(t in NUMBER_SETS for t in tokens)


def _operated(tokens: Tokens, kinds: Kinds) -> Answer | None:
    r"""Unions, differences and intersections of intervals and sets of numbers."""
    tokens = _spelled(tokens)
    for operators, operate in ((("\\cup",), _union), (("\\setminus", "-"), _difference), (("\\cap",), _intersection)):
        parts = split(tokens, operators)
        if len(parts) < 2 or not all(part and _is_set(part) for part in parts):
            continue
        if "-" in operators and "\\setminus" not in tokens and any(part[0] != "\\{" for part in parts[1:]):
            continue
        answers = [kinds.read(part) for part in parts]
        if operators == ("\\cup",) and all(isinstance(a, Group) and a.kind == "set" for a in answers):
            return Group("set", _distinct([item for a in answers if isinstance(a, Group) for item in a.items], kinds))
        regions = [as_region(answer) for answer in answers]
        known = [region for region in regions if region]
        if len(known) < len(parts):
            raise Unreadable("an operation on what is no set of real numbers")
        result = known[0].pieces
        for other in known[1:]:
            result = operate(result, other.pieces)
        return Region(result)
    return None


def _distinct(items: list[Answer], kinds: Kinds) -> tuple[Answer, ...]:
    kept: list[Answer] = []
    for item in items:
        if not any(kinds.same(other, item) for other in kept):
            kept.append(item)
    return tuple(kept)


def _spelled(tokens: Tokens) -> Tokens:
    """`U` between brackets is a union; `all real numbers except 2` is a difference."""
    if "U" in tokens:
        tokens = tuple(
            "\\cup" if t == "U" and 0 < i < len(tokens) - 1 and tokens[i - 1] in ")]" and tokens[i + 1] in "([" else t
            for i, t in enumerate(tokens)
        )
    for word in ("~except", "~but", "~excluding", "~without"):
        if tokens[:1] == ("\\reals",) and word in tokens:
            rest = tuple(t for t in tokens[tokens.index(word) + 1 :] if t not in ("~for", "x", "=", "~x"))
            rest = tuple("," if t in ("~and", "~or") else t for t in rest)
            return rest if rest[:1] == ("\\{",) else ("\\reals", "\\setminus", "\\{", *rest, "\\}")
    return tokens


def _positive(tokens: Tokens) -> Answer | None:
    r"""`\mathbb{R}^+` and its like."""
    marks = tuple(token for token in tokens[1:] if token not in ("{", "}", "^", "_"))
    if (
        tokens[0] != "\\reals"
        or len(tokens) < 3
        or marks not in (("+",), ("-",), (">", "0"), ("\\geq", "0"), ("<", "0"))
    ):
        return None
    positive = marks[0] in ("+", ">", "\\geq")
    half = (
        Piece(_ZERO, marks[0] == "\\geq", _INFINITY, False) if positive else Piece(_MINUS_INFINITY, False, _ZERO, False)
    )
    return Region((half,))


def as_region(answer: Answer) -> Region | None:
    match answer:
        case Region():
            return answer
        case Group(kind=kind, items=(Quantity() as low, Quantity() as high)) if kind in BRACKETS:
            return Region((Piece(low.tree, kind[0] == "[", high.tree, kind[1] == "]"),))
        case Group(kind="set", items=items):
            points = [item.tree for item in items if isinstance(item, Quantity)]
            return Region(tuple(Piece(p, True, p, True) for p in points)) if len(points) == len(items) else None
        case Quantity(tree=Symbol(name="\\reals")):
            return Region((_LINE,))
        case OneOf(readings=readings):
            return next((region for region in map(as_region, readings) if region), None)
    return None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Inequality(), Inequality():
            return _same_inequality(gold, answer)
        case Together(), Together():
            return gold.joined == answer.joined and same_in_any_order(gold.parts, answer.parts, kinds)
        case (Inequality() as relation, Region() as region) | (Region() as region, Inequality() as relation):
            bound = _as_inequality(region)
            return bound is not None and _same_inequality(relation, bound)
        case (Together() | Inequality(), _) | (_, Together() | Inequality()):
            return False
    if isinstance(gold, Group) and isinstance(answer, Group):
        if not _is_interval(gold) or not _is_interval(answer) or _same_items(gold, answer, kinds):
            return None
    elif not any(isinstance(side, Region) or side == _REALS for side in (gold, answer)):
        return None
    left, right = as_region(gold), as_region(answer)
    if left is None or right is None or (left.name and right.name and left.name != right.name):
        return False
    return _same_pieces(left.pieces, right.pieces)


def _is_interval(group: Group) -> bool:
    return group.kind in BRACKETS and len(group.items) == 2


def _same_items(gold: Group, answer: Group, kinds: Kinds) -> bool:
    return gold.kind == answer.kind and same_in_order(gold.items, answer.items, kinds)


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
    if _infinite(piece.low) and not _infinite(piece.high):
        return Inequality((name, piece.high), ("\\leq" if piece.high_closed else "<",))
    if _infinite(piece.high) and not _infinite(piece.low):
        return Inequality((piece.low, name), ("\\leq" if piece.low_closed else "<",))
    return None


def _same_pieces(gold: Sequence[Piece], answer: Sequence[Piece]) -> bool:
    if not any(symbols(end) for piece in (*gold, *answer) for end in (piece.low, piece.high)):
        gold, answer = _merged(gold), _merged(answer)
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
    infinite = _infinite(gold), _infinite(answer)
    if any(infinite):
        return infinite[0] == infinite[1]
    return gold_closed == answer_closed and same_value(gold, answer)


def _infinite(end: Expr) -> int:
    if end == _MINUS_INFINITY:
        return -1
    return int(end == _INFINITY)


def _order(a: Expr, b: Expr) -> int:
    """-1, 0 or 1 as `a` is below, equal to or above `b`. Raises Undefined where they are no real constants."""
    infinite = _infinite(a), _infinite(b)
    if any(infinite):
        return (infinite[0] > infinite[1]) - (infinite[0] < infinite[1])
    if a == b or same_value(a, b):
        return 0
    left: Any = real_value(a)
    return -1 if left < real_value(b) else 1


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """The same numbers in as few pieces as possible, rising; pieces without any number are left out."""
    full = [piece for piece in pieces if _holds_numbers(piece)]
    rising = sorted(full, key=cmp_to_key(_lower_end))
    out: list[Piece] = []
    for piece in rising:
        if not out or not _touch(out[-1], piece):
            out.append(piece)
            continue
        last = out[-1]
        order = _order(last.high, piece.high)
        high = last if order > 0 else piece
        closed = last.high_closed or piece.high_closed if order == 0 else high.high_closed
        out[-1] = Piece(last.low, last.low_closed, high.high, closed)
    return out


def _lower_end(first: Piece, second: Piece) -> int:
    """The order of two pieces by where they begin; at one end the closed one is first."""
    return _order(first.low, second.low) or second.low_closed - first.low_closed


def _holds_numbers(piece: Piece) -> bool:
    order = _order(piece.low, piece.high)
    return order < 0 or (order == 0 and piece.low_closed and piece.high_closed)


def _touch(first: Piece, second: Piece) -> bool:
    order = _order(second.low, first.high)
    return order < 0 or (order == 0 and (second.low_closed or first.high_closed))


def _union(gold: Sequence[Piece], other: Sequence[Piece]) -> tuple[Piece, ...]:
    return (*gold, *other)


def _intersection(first: Sequence[Piece], second: Sequence[Piece]) -> tuple[Piece, ...]:
    found = []
    for a in first:
        for b in second:
            low, high = _order(a.low, b.low), _order(a.high, b.high)
            start = a if low > 0 else b
            end = a if high < 0 else b
            piece = Piece(
                start.low, a.low_closed and b.low_closed if low == 0 else start.low_closed,
                end.high, a.high_closed and b.high_closed if high == 0 else end.high_closed,
            )  # fmt: skip
            if _holds_numbers(piece):
                found.append(piece)
    return tuple(found)


def _difference(whole: Sequence[Piece], removed: Sequence[Piece]) -> tuple[Piece, ...]:
    for piece in removed:
        below = Piece(_MINUS_INFINITY, False, piece.low, not piece.low_closed)
        above = Piece(piece.high, not piece.high_closed, _INFINITY, False)
        whole = _intersection(whole, [end for end in (below, above) if _holds_numbers(end)])
    return tuple(whole)


def _without(pieces: Sequence[Piece], point: Expr) -> tuple[Piece, ...]:
    if symbols(point):
        return (Piece(_MINUS_INFINITY, False, point, False), Piece(point, False, _INFINITY, False))
    return _difference(pieces, [Piece(point, True, point, True)])
