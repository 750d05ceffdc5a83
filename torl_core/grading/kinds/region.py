r"""Sets of real numbers: intervals, unions, `\mathbb{R}^+`, the real numbers without some, set-builders, `x \in (0,1)`.

Two regions are the same when they hold the same numbers: what touches is merged. Regions whose ends have variables are
compared piece by piece. The name of the unknown may be missing on one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Symbol, Unreadable
from torl_core.grading.intervals import (
    INFINITY,
    LINE,
    MINUS_INFINITY,
    ZERO,
    Piece,
    intersection,
    same_numbers,
    union,
    without,
)
from torl_core.grading.kinds.base import MAX_ITEMS, Answer, Kinds, OneOf
from torl_core.grading.kinds.bracket import BRACKETS, Group, same_in_any_order, same_in_order
from torl_core.grading.kinds.equation import Assignment, Equation
from torl_core.grading.kinds.family import Family, qualifier
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import NUMBER_SETS, Tokens, closing, split


@dataclass(frozen=True, slots=True)
class Region(Answer):
    """The numbers of all pieces. `name` is the unknown, empty where the notation has none."""

    pieces: tuple[Piece, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Together(Answer):
    """Relations that hold together (`joined` is `and`) or of which one holds (`or`), in several unknowns."""

    joined: str
    parts: tuple[Answer, ...]


_HALVES = (("+",), ("-",), (">", "0"), ("\\geq", "0"), ("<", "0"))
_REALS = Quantity(Symbol("\\reals"))


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    for reader in (_set_builder, _member, _operated):
        if (found := reader(tokens, kinds)) is not None:
            return found
    return _half_line(tokens)


def _set_builder(tokens: Tokens, kinds: Kinds) -> Answer | None:
    r"""The condition of `\{x \mid ...\}`."""
    if tokens[0] not in ("\\{", "{") or closing(tokens, 0) != len(tokens) - 1:
        return None
    inner = tokens[1:-1]
    cut = next((i for i, token in enumerate(inner) if token in ("|", ":")), 0)
    if not cut or not inner[cut + 1 :]:
        return None
    if members := qualifier((",", *inner[cut + 1 :])):
        return Family(kinds.read(inner[:cut]), *members)
    condition = kinds.read(inner[cut + 1 :])
    if isinstance(condition, Assignment | Equation) and len(inner[:cut]) == 1:
        raise Unreadable("a set of values that an equation describes")
    within = split(inner[:cut], ("\\in",))
    if len(within) == 2 and within[1] in (("\\integers",), ("\\naturals",)) and isinstance(condition, Region):
        whole = _whole_numbers(condition, from_one=within[1] == ("\\naturals",))
        if whole is not None:
            return whole
    if len(within) == 2 and within[1] != ("\\reals",):
        return Together("and", (kinds.read(within[1]), condition))
    return Region(condition.pieces) if isinstance(condition, Region) else condition


def _whole_numbers(region: Region, from_one: bool) -> Group | None:
    """The whole numbers of a bounded region, if they are few."""
    if len(region.pieces) != 1:
        return None
    (piece,) = region.pieces
    if from_one:
        (piece,) = intersection((piece,), (Piece(Number(Fraction(1)), True, INFINITY, False),)) or (piece,)
    ends = [end.value for end in (_plain(piece.low), _plain(piece.high)) if isinstance(end, Number)]
    if len(ends) < 2 or ends[1] - ends[0] > MAX_ITEMS:
        return None
    first, last = math.ceil(ends[0]), math.floor(ends[1])
    numbers = [n for n in range(first, last + 1) if piece.low_closed or n != ends[0]]
    numbers = [n for n in numbers if piece.high_closed or n != ends[1]]
    return Group("set", tuple(Quantity(Number(Fraction(n))) for n in numbers))


def _plain(end: Expr) -> Expr:
    """A negated numeral as a number."""
    match end:
        case Call(op="neg", args=(Number(value=value),)):
            return Number(-value)
    return end


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
    for operators, operate in ((("\\cup",), union), (("\\setminus", "-"), without), (("\\cap",), intersection)):
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


def _half_line(tokens: Tokens) -> Answer | None:
    r"""`\mathbb{R}^+` and its like."""
    marks = tuple(token for token in tokens[1:] if token not in ("{", "}", "^", "_"))
    if tokens[0] != "\\reals" or len(tokens) < 3 or marks not in _HALVES:
        return None
    if marks[0] in ("-", "<"):
        return Region((Piece(MINUS_INFINITY, False, ZERO, False),))
    return Region((Piece(ZERO, marks[0] == "\\geq", INFINITY, False),))


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
            return Region((LINE,))
        case OneOf(readings=readings):
            return next((region for region in map(as_region, readings) if region), None)
    return None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if isinstance(gold, Together) and isinstance(answer, Together):
        return gold.joined == answer.joined and same_in_any_order(gold.parts, answer.parts, kinds)
    if isinstance(gold, Together) or isinstance(answer, Together):
        return False
    if isinstance(gold, Group) and isinstance(answer, Group):
        if not _is_interval(gold) or not _is_interval(answer) or _same_items(gold, answer, kinds):
            return None
    elif not any(isinstance(side, Region) or side == _REALS for side in (gold, answer)):
        return None
    left, right = as_region(gold), as_region(answer)
    if left is None or right is None or (left.name and right.name and left.name != right.name):
        return False
    return same_numbers(left.pieces, right.pieces)


def _is_interval(group: Group) -> bool:
    return group.kind in BRACKETS and len(group.items) == 2


def _same_items(gold: Group, answer: Group, kinds: Kinds) -> bool:
    return gold.kind == answer.kind and same_in_order(gold.items, answer.items, kinds)
