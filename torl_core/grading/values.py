"""Whether two scalar trees have the same value: exactly where both are rational, else to 60 and 120 digits.

Identities in variables are tested at fixed pseudo-random rational points (Schwartz-Zippel); where both trees are rational
functions those tests are exact as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from torl_core.grading.expression import Call, Expr, Undefined, Value, evaluate, mentions, symbols

MAX_SYMBOLS = 12
ENOUGH_POINTS = 5
_DIGITS = 60

Point = Mapping[str, Value]


def same_value(gold: Expr, answer: Expr) -> bool:
    r"""Whether the two agree wherever `gold` is defined and real. A bare `\log` may mean base e or base 10, the same in both.

    Raises TooLarge, Undefined.
    """
    if gold == answer:
        return True
    names = symbols(gold) | symbols(answer)
    bases = (None, 10) if mentions(gold, "log") or mentions(answer, "log") else (None,)
    return any(_agree_everywhere(gold, answer, names, base) for base in bases)


def _agree_everywhere(gold: Expr, answer: Expr, names: frozenset[str], base: int | None) -> bool:
    for point in _domain(gold, names, base):
        try:
            if not _agree(lambda p=point: (evaluate(gold, p, base), evaluate(answer, p, base))):  # type: ignore[misc]
                return False
        except Undefined:
            return False
    return True


def proportional(gold: Expr, answer: Expr, positive: bool = False) -> bool:
    """Whether `gold` is a non-zero (or positive) constant times `answer`. Raises TooLarge, Undefined."""
    names = symbols(gold) | symbols(answer)
    points = list(_domain(gold, names, None))
    origin = points[0]
    with mpmath.workdps(_DIGITS):
        first, second = evaluate(gold, origin, None), evaluate(answer, origin, None)
        if not first or not second:
            return same_value(gold, answer)
        ratio = (mpmath.mpf(1) * first.numerator / first.denominator if isinstance(first, Fraction) else first) / (
            mpmath.mpf(1) * second.numerator / second.denominator if isinstance(second, Fraction) else second
        )
        if positive and not (isinstance(ratio, mpmath.mpf) and ratio > 0):
            return False

    def crossed(point: Point) -> tuple[Value, Value]:
        left = evaluate(gold, point) * evaluate(answer, origin)
        return left, evaluate(answer, point) * evaluate(gold, origin)

    try:
        return all(_agree(lambda p=point: crossed(p)) for point in points[1:])  # type: ignore[misc]
    except Undefined:
        return False


def real_value(tree: Expr) -> Any:
    """The value of a real constant as an mpmath number of 60 digits, for ordering. Raises TooLarge, Undefined."""
    with mpmath.workdps(_DIGITS):
        value = evaluate(tree, {})
        if isinstance(value, mpmath.mpc):
            raise Undefined("not real")
        return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _domain(gold: Expr, names: frozenset[str], base: int | None) -> Iterator[Point]:
    """The points that decide: those where `gold` is real; all where it is defined if it is hardly ever real."""
    defined: list[Point] = []
    real: list[Point] = []
    for point in _points(names):
        try:
            with mpmath.workdps(_DIGITS):
                value = evaluate(gold, point, base)
        except Undefined:
            continue
        defined.append(point)
        if not isinstance(value, mpmath.mpc) or mentions(gold, "i"):
            real.append(point)
        if len(real) == 2 * ENOUGH_POINTS:
            break
    if not defined:
        raise Undefined("nowhere defined")
    yield from real if len(real) >= ENOUGH_POINTS or not names else defined


def _points(names: frozenset[str]) -> Iterator[Point]:
    """Points of both signs, then positive ones, then whole ones. One empty point where there are no variables."""
    if not names:
        yield {}
        return
    if len(names) > MAX_SYMBOLS:
        raise Undefined(f"more than {MAX_SYMBOLS} variables")
    draw = random.Random(2503)
    for low, count in ((-400, 8), (1, 8)):
        for _ in range(count):
            yield {name: Fraction(draw.randint(low, 400) or 1, 64) for name in sorted(names)}
    for _ in range(8):
        yield {name: Fraction(draw.randint(1, 9)) for name in sorted(names)}


def _agree(pair: Callable[[], tuple[Value, Value]]) -> bool:
    """Equality of two computed values: a true difference stays when the precision is doubled, a rounding error shrinks."""
    near, scale = _difference(pair, _DIGITS)
    if scale is None:
        return bool(near == 0)
    if near > max(scale, 1) * mpmath.mpf(10) ** (-_DIGITS // 2):
        return False
    far, _ = _difference(pair, 2 * _DIGITS)
    return bool(far <= max(near, scale * mpmath.mpf(10) ** -_DIGITS) * mpmath.mpf(10) ** (-_DIGITS * 2 // 3))


def _difference(pair: Callable[[], tuple[Value, Value]], digits: int) -> tuple[Any, Any]:
    """|a - b| and max(|a|, |b|); the scale is None where both are rational and the difference is exact."""
    with mpmath.workdps(digits):
        a, b = pair()
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return abs(a - b), None
        a, b = (mpmath.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (a, b))
        return abs(a - b), max(abs(a), abs(b))


def difference(left: Expr, right: Expr) -> Expr:
    return Call("-", (left, right))
