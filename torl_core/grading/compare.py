"""Whether two shapes of answer are the same answer. Raises TooLarge and Undefined where that cannot be computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Symbol, symbols
from torl_core.grading.structure import (
    Answer,
    Assignment,
    Based,
    Equation,
    Except,
    Group,
    Inequality,
    Matrix,
    Ratio,
    Scalar,
    Union,
    Words,
    marked,
)
from torl_core.grading.values import difference, evaluate, proportional, real_value, same_value

Piece = tuple[Expr, bool, Expr, bool]
"""An interval: lower end, whether it belongs, upper end, whether it belongs."""

_INFINITY = Symbol("\\infty")
_MINUS_INFINITY = Call("neg", (_INFINITY,))
_BRACKETS = frozenset(["()", "[]", "(]", "[)"])
_RADIANS = "rad^1"


def same(gold: Answer, answer: Answer) -> bool:
    """Symmetric but for two things: identities hold on the gold's domain; a bare gold below one is no percentage."""
    if isinstance(gold, Assignment) or isinstance(answer, Assignment):
        return _same_assignment(gold, answer)
    gold, answer = _single(gold), _single(answer)
    match gold, answer:
        case Scalar(), Scalar():
            return _same_scalar(gold, answer)
        case Words(), Words():
            return _plain(gold.text) == _plain(answer.text)
        case Based(), Based():
            return gold == answer
        case (Based(base=10), Scalar()) | (Scalar(), Based(base=10)):
            numeral, scalar = (gold, answer) if isinstance(gold, Based) else (answer, gold)
            assert isinstance(numeral, Based)
            assert isinstance(scalar, Scalar)
            return numeral.digits.lstrip("-").isdigit() and same_value(Number(Fraction(numeral.digits)), scalar.tree)
        case Equation(), Equation():
            return proportional(difference(gold.left, gold.right), difference(answer.left, answer.right))
        case Ratio(), Ratio():
            return _same_ratio(gold, answer)
        case (Ratio(terms=(a, b)), Scalar(tree=c)) | (Scalar(tree=c), Ratio(terms=(a, b))):
            return same_value(Call("/", (a, b)), c)
        case Matrix(), Matrix():
            return gold.kind == answer.kind and _same_rows(gold.rows, answer.rows)
        case (Matrix(rows=rows), Group(kind="()", items=items)) | (Group(kind="()", items=items), Matrix(rows=rows)):
            return _same_in_order([cell for row in rows for cell in row], items) and min(len(rows), len(rows[0])) == 1
        case Group(), Group() if _same_group(gold, answer):
            return True
    return _same_region(gold, answer)


def _single(answer: Answer) -> Answer:
    """A set or list of one scalar is that scalar."""
    if isinstance(answer, Group) and answer.kind in ("list", "set") and len(answer.items) == 1:
        return answer.items[0]
    return answer


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _same_scalar(gold: Scalar, answer: Scalar) -> bool:
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    if gold.mark == answer.mark:
        return same_value(gold.tree, answer.tree)
    if {gold.mark, answer.mark} == {"%", "\\degree"}:
        return False
    by_value = same_value(marked(gold), marked(answer))
    if _RADIANS in (gold.unit, answer.unit):
        return by_value
    return by_value or (_mark_may_be_missing(gold) and same_value(gold.tree, answer.tree))


def _mark_may_be_missing(gold: Scalar) -> bool:
    """A bare gold below one is a ratio, not a number of percent."""
    if gold.mark or symbols(gold.tree):
        return True
    value = evaluate(gold.tree, {})
    return not isinstance(value, Fraction) or abs(value) >= 1 or value == 0


def _same_assignment(gold: Answer, answer: Answer) -> bool:
    if isinstance(gold, Assignment) and isinstance(answer, Assignment):
        if gold.name == answer.name:
            return same(gold.value, answer.value)
        return _same_equation(_as_equation(gold), _as_equation(answer))
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return _same_equation(_as_equation(gold), _as_equation(answer))
    return same(
        gold.value if isinstance(gold, Assignment) else gold, answer.value if isinstance(answer, Assignment) else answer
    )


def _as_equation(answer: Answer) -> Equation | None:
    if isinstance(answer, Assignment) and isinstance(answer.value, Scalar) and len(answer.name) == 1:
        return Equation(Symbol(answer.name[0]), answer.value.tree)
    return answer if isinstance(answer, Equation) else None


def _same_equation(gold: Equation | None, answer: Equation | None) -> bool:
    return bool(gold and answer and same(gold, answer))


def _same_ratio(gold: Ratio, answer: Ratio) -> bool:
    """a:b:c is a':b':c' when all cross products agree."""
    if len(gold.terms) != len(answer.terms):
        return False
    if gold.terms == answer.terms:
        return True
    (a, *rest), (b, *others) = gold.terms, answer.terms
    return all(same_value(Call("*", (a, y)), Call("*", (b, x))) for x, y in zip(rest, others, strict=True))


def _same_rows(gold: Sequence[Sequence[Answer]], answer: Sequence[Sequence[Answer]]) -> bool:
    return len(gold) == len(answer) and all(_same_in_order(a, b) for a, b in zip(gold, answer, strict=True))


def _same_in_order(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    return len(gold) == len(answer) and all(same(a, b) for a, b in zip(gold, answer, strict=True))


def _same_in_any_order(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    """Multiset equality by pairing off: sameness is transitive but for marks and units, which lists hardly mix."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for item in gold:
        match = next((i for i, other in enumerate(left) if same(item, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_group(gold: Group, answer: Group) -> bool:
    kinds = {gold.kind, answer.kind}
    if kinds <= {"list", "set"}:
        return _same_in_any_order(gold.items, answer.items)
    if kinds <= {"list", "set", "[]"} and len(gold.items) > 2:
        return _same_in_any_order(gold.items, answer.items)
    if kinds in ({"()"}, {"()", "list"}, {"[]"}) or (kinds == {"()", "[]"} and len(gold.items) > 2):
        return _same_in_order(gold.items, answer.items)
    return False


def _same_region(gold: Answer, answer: Answer) -> bool:
    """Sets of real numbers, written as intervals, unions, inequalities or the real numbers without some points."""
    if isinstance(gold, Inequality) and isinstance(answer, Inequality):
        left, right = _subject(gold), _subject(answer)
        if left is None or right is None:
            return _same_inequality(gold, answer)
        if not same_value(left, right):
            return False
    pieces, others = _pieces(gold), _pieces(answer)
    if pieces is None or others is None or len(pieces) != len(others):
        return False
    left_over = list(others)
    for piece in pieces:
        match = next((i for i, other in enumerate(left_over) if _same_piece(piece, other)), None)
        if match is None:
            return False
        del left_over[match]
    return True


def _same_inequality(gold: Inequality, answer: Inequality) -> bool:
    if gold.ops != answer.ops or len(gold.ops) != 1:
        return False
    sides = difference(*gold.sides), difference(*answer.sides)
    return proportional(*sides, positive=gold.ops != ("\\neq",))


def _subject(relation: Inequality) -> Expr | None:
    """What an inequality bounds by constants: the middle of a chain, or its one side with variables."""
    if len(relation.sides) == 3:
        return relation.sides[1]
    with_variables = [side for side in relation.sides if symbols(side)]
    return with_variables[0] if len(with_variables) == 1 and isinstance(with_variables[0], Symbol) else None


def _pieces(answer: Answer) -> list[Piece] | None:
    match answer:
        case Group(kind=kind, items=(Scalar() as low, Scalar() as high)) if kind in _BRACKETS:
            return [(low.tree, kind[0] == "[", high.tree, kind[1] == "]")]
        case Group(kind="set", items=items) if items:
            points = [item.tree for item in items if isinstance(item, Scalar)]
            return [(point, True, point, True) for point in points] if len(points) == len(items) else None
        case Union(parts=parts) | Group(kind="list", items=parts) if parts:
            found = [_pieces(part) for part in parts]
            if isinstance(answer, Group) and not all(isinstance(part, Inequality) for part in parts):
                return None
            return None if None in found else [piece for pieces in found for piece in pieces or ()]
        case Inequality():
            return _bounded_by(answer)
        case Except(points=points_):
            return _around(points_)
        case Scalar(tree=Symbol(name="\\reals")):
            return [(_MINUS_INFINITY, False, _INFINITY, False)]
    return None


def _bounded_by(relation: Inequality) -> list[Piece] | None:
    closed = [op == "\\leq" for op in relation.ops]
    match relation:
        case Inequality(sides=(Call(op="abs", args=(Symbol(),)), bound), ops=("<" | "\\leq",)):
            return [(Call("neg", (bound,)), closed[0], bound, closed[0])]
        case Inequality(sides=(bound, Call(op="abs", args=(Symbol(),))), ops=("<" | "\\leq",)):
            return [(_MINUS_INFINITY, False, Call("neg", (bound,)), closed[0]), (bound, closed[0], _INFINITY, False)]
    subject = _subject(relation)
    if subject is None:
        return None
    if len(relation.sides) == 3:
        return [(relation.sides[0], closed[0], relation.sides[2], closed[1])]
    if len(relation.sides) != 2:
        return None
    low, high = relation.sides
    if relation.ops == ("\\neq",):
        return _around((low if high is subject else high,))
    if high is subject:
        return [(low, closed[0], _INFINITY, False)]
    return [(_MINUS_INFINITY, False, high, closed[0])]


def _around(points: Sequence[Expr]) -> list[Piece]:
    """The open intervals between the removed points."""
    ends = [_MINUS_INFINITY, *sorted(points, key=real_value), _INFINITY]
    return [(low, False, high, False) for low, high in itertools.pairwise(ends)]


def _same_piece(gold: Piece, answer: Piece) -> bool:
    return _same_end(gold[0], gold[1], answer[0], answer[1]) and _same_end(gold[2], gold[3], answer[2], answer[3])


def _same_end(gold: Expr, gold_closed: bool, answer: Expr, answer_closed: bool) -> bool:
    infinite = _infinite(gold), _infinite(answer)
    if any(infinite):
        return infinite[0] == infinite[1]
    return gold_closed == answer_closed and same_value(gold, answer)


def _infinite(end: Expr) -> int:
    if end == Call("neg", (_INFINITY,)):
        return -1
    return int(end == _INFINITY)
