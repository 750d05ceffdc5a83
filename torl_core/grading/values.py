"""Evaluation of scalar trees, exact where the value is rational, and whether two trees have the same value.

Every intermediate size is bounded, so no tree can make evaluation run away. Values that are not rational are compared
to 60 and 120 digits. Identities in variables are tested at fixed pseudo-random rational points (Schwartz-Zippel); where
both sides are rational functions those tests are exact as well.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]

from torl_core.grading.expression import BINDING, CONSTANTS, Call, Expr, Number, Symbol, mentions, sorted_tree, symbols

MAX_BITS = 100_000
MAX_EXPONENT = 10_000
MAX_ROOT_BITS = 4_000
MAX_FACTORIAL = 5_000
MAX_UNDEFINED = 2
"""Points at which an answer may be undefined although the gold is not: a removable gap, as of `(x^2-1)/(x-1)`."""
MAX_TERMS = 1_000
MAX_MAGNITUDE = 20
"""Binary exponent of the largest argument of a transcendental function."""

Value = Fraction | Any
"""A Fraction, or an mpmath number where the value is not rational or not known to be."""
MAX_SYMBOLS = 12
ENOUGH_POINTS = 5
_DIGITS = 60

Point = Mapping[str, Value]


class TooLarge(Exception):
    """Evaluating this would take numbers beyond the bounds of this module."""


class Undefined(Exception):
    """Division by zero, a pole, or another value that does not exist."""


def same_value(gold: Expr, answer: Expr) -> bool:
    r"""Whether the two agree wherever `gold` is defined and real. A bare `\log` means base e or base 10, in both alike.

    Raises TooLarge, Undefined.
    """
    if gold == answer:
        return True
    names = symbols(gold) | symbols(answer)
    if sorted_tree(gold) == sorted_tree(answer):
        return True
    bases = (None, 10) if mentions(gold, "log") or mentions(answer, "log") else (None,)
    return any(_agree_everywhere(gold, answer, names, base) for base in bases)


def _agree_everywhere(gold: Expr, answer: Expr, names: frozenset[str], base: int | None) -> bool:
    undefined = agreed = 0
    for point in _domain(gold, names, base):
        try:
            if not _agree(lambda p=point: (evaluate(gold, p, base), evaluate(answer, p, base))):  # type: ignore[misc]
                return False
            agreed += 1
        except Undefined:
            undefined += 1
    return agreed > 0 and undefined <= MAX_UNDEFINED


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


def differ_by_constant(gold: Expr, answer: Expr) -> bool:
    """Whether `gold - answer` has one value wherever `gold` is defined and real. Raises TooLarge, Undefined."""
    names = symbols(gold) | symbols(answer)
    origin, *points = _domain(gold, names, None)

    def pair(point: Point) -> tuple[Value, Value]:
        return evaluate(difference(gold, answer), point), evaluate(difference(gold, answer), origin)

    try:
        return all(_agree(lambda p=point: pair(p)) for point in points)  # type: ignore[misc]
    except Undefined:
        return False


def is_whole(tree: Expr) -> bool:
    """Whether a constant is a whole number. Raises TooLarge, Undefined."""
    return same_value(tree, Number(Fraction(int(mpmath.nint(real_value(tree))))))


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
    yield from real if len(real) >= (ENOUGH_POINTS if names else 1) else defined


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
    """Equality of two computed values: a true difference stays when the precision doubles, a rounding error shrinks."""
    near, scale = _difference(pair, _DIGITS)
    if scale is None:
        return bool(near == 0)
    if near > max(scale, 1) * mpmath.mpf(10) ** (-_DIGITS // 2):
        return False
    far, _ = _difference(pair, 2 * _DIGITS)
    rounding = max(near or mpmath.mpf(10) ** -_DIGITS, scale * mpmath.mpf(10) ** -_DIGITS)  # zero may be luck
    return bool(far <= rounding * mpmath.mpf(10) ** (-_DIGITS * 2 // 3))


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


def evaluate(tree: Expr, at: Mapping[str, Value], log_base: int | None = None) -> Value:
    r"""The value at a point, under mpmath's current precision; `log_base` is what a bare `\log` means (None: e).

    Raises TooLarge, Undefined.
    """
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Symbol):
        return _constant(tree.name) if tree.name in CONSTANTS else at[tree.name]
    if tree.op in BINDING:
        return _bounded(_bound(tree, at, log_base))
    args = [evaluate(arg, at, log_base) for arg in tree.args]
    if tree.op.endswith("()"):
        return _bounded(_unknown(tree.op, args))
    if tree.op == "log":
        return _apply("log_base", [args[0], Fraction(log_base)]) if log_base else _apply("ln", args)
    return _apply(tree.op, args)


def _bound(tree: Call, at: Mapping[str, Value], log_base: int | None) -> Value:
    """The value of a sum or product over whole numbers, or of a definite integral."""
    variable, low_tree, high_tree, body = tree.args
    assert isinstance(variable, Symbol)
    if any(mentions(body, op) for op in BINDING):
        raise TooLarge("a sum within a sum")
    low, high = evaluate(low_tree, at, log_base), evaluate(high_tree, at, log_base)

    def term(value: Value) -> Value:
        return evaluate(body, {**at, variable.name: value}, log_base)

    if tree.op == "int":
        with mpmath.workdps(mpmath.mp.dps + 10):
            value, error = mpmath.quad(lambda x: _real(term(x)), [_real(low), _real(high)], error=True)
        if error > mpmath.mpf(10) ** -(mpmath.mp.dps * 3 // 4):
            raise Undefined("an integral that does not settle")
        return value
    if not all(isinstance(end, Fraction) and end.denominator == 1 for end in (low, high)):
        raise Undefined("a sum whose ends are not whole")
    if high < low - 1:
        raise Undefined("a sum whose ends fall")
    if high - low > MAX_TERMS:
        raise TooLarge("the number of terms")
    total: Value = Fraction(int(tree.op == "prod"))
    for k in range(int(low), int(high) + 1):
        total = _apply("+" if tree.op == "sum" else "*", [total, term(Fraction(k))])
    return total


def _unknown(name: str, args: list[Value]) -> Value:
    """The value of a function that nobody defined: one rational function for each name, with no symmetry of its own.

    Two expressions in such functions that agree at every point then agree whatever the functions are.
    """
    draw = random.Random(name)
    exact = all(isinstance(arg, Fraction) for arg in args)
    a, b, c, d, *weights = (Fraction(draw.randint(100, 999), 97) for _ in range(4 + len(args)))
    if not exact:
        a, b, c, d, *weights = map(_real, (a, b, c, d, *weights))
        args = [_real(arg) for arg in args]
    at = sum((weight * arg for weight, arg in zip(weights, args, strict=True)), start=c * 0)
    return (a * at + b) / (at * at + at + c) + d * at


def _constant(name: str) -> Value:
    if name == "\\infty":
        raise Undefined("infinity is not a number")
    return {"\\pi": mpmath.mp.pi, "e": mpmath.mp.e, "i": mpmath.mpc(0, 1)}[name] * 1


def _apply(op: str, args: list[Value]) -> Value:
    try:
        value = _exact(op, args) if all(isinstance(arg, Fraction) for arg in args) else None
        if value is None and op == "^":
            value = _power(_real(args[0]), args[1])
        elif value is None:
            value = _NUMERIC[op](*[_real(arg) for arg in args])
    except (ZeroDivisionError, ValueError, mpmath.libmp.NoConvergence) as error:
        raise Undefined(op) from error
    except KeyError as error:
        raise Undefined(f"no operation {op}") from error
    return _bounded(value)


def _real(value: Value) -> Any:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _bounded(value: Value) -> Value:
    if isinstance(value, mpmath.mpc) and not value.imag:
        value = value.real
    if isinstance(value, Fraction):
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            raise TooLarge("a number of too many digits")
    elif not mpmath.isfinite(value):
        raise Undefined("infinite")
    elif value and abs(mpmath.mag(value)) > MAX_BITS:
        raise TooLarge("a number of too large a magnitude")
    return value


def _exact(op: str, args: list[Fraction]) -> Fraction | None:
    """The rational value, or None where it is not rational (or not rational for sure)."""
    a = args[0]
    match op:
        case "neg":
            return -a
        case "+":
            return a + args[1]
        case "-":
            return a - args[1]
        case "*":
            return a * args[1]
        case "/":
            return a / args[1]
        case "abs":
            return abs(a)
        case "floor":
            return Fraction(a.__floor__())
        case "ceil":
            return Fraction(a.__ceil__())
        case "max" | "min":
            return max(args) if op == "max" else min(args)
        case "gcd" | "lcm" if all(arg.denominator == 1 for arg in args):
            return Fraction((math.gcd if op == "gcd" else math.lcm)(*(arg.numerator for arg in args)))
        case "^":
            return _exact_power(a, args[1])
        case "root":
            return _exact_power(a, 1 / args[1])
        case "!" | "!!" | "binom":
            return _exact_count(op, args)
    return None


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if abs(exponent.numerator) > MAX_EXPONENT and abs(base) not in (0, 1):
        raise TooLarge("an exponent")
    if exponent.denominator > 1:
        sign = -1 if base < 0 and exponent.denominator % 2 else 1
        top, bottom = (_exact_root(part, exponent.denominator) for part in ((base * sign).numerator, base.denominator))
        if top is None or bottom is None:
            return None
        base = Fraction(sign * top, bottom)
    if (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent.numerator) > 2 * MAX_BITS and abs(
        base
    ) != 1:
        raise TooLarge("a power")
    if base == -1:
        return Fraction(-1 if exponent.numerator % 2 else 1)
    return Fraction(1) if base == 1 else base**exponent.numerator


def _exact_root(value: int, degree: int) -> int | None:
    if value < 0 or degree > MAX_EXPONENT or value.bit_length() > MAX_ROOT_BITS:
        return None
    root = math.isqrt(value) if degree == 2 else _integer_root(value, degree)
    return root if root**degree == value else None


def _integer_root(value: int, degree: int) -> int:
    """Floor of the degree-th root, by bisection on integers."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    return low


def _exact_count(op: str, args: list[Fraction]) -> Fraction | None:
    if any(arg.denominator > 1 or arg < 0 for arg in args):
        if op == "!!":
            raise Undefined("a double factorial of what is not a natural number")
        return None
    if max(args) > MAX_FACTORIAL:
        raise TooLarge("a factorial")
    numbers = [arg.numerator for arg in args]
    if op == "!!":
        return Fraction(math.prod(range(numbers[0], 0, -2)))
    return Fraction(math.factorial(*numbers) if op == "!" else math.comb(*numbers))


def _moderate(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, refusing arguments so large that evaluating it would need as many bits as they have magnitude."""

    def checked(*args: Any) -> Any:
        if any(arg and mpmath.mag(arg) > MAX_MAGNITUDE for arg in args):
            raise TooLarge("the argument of a function")
        return function(*args)

    return checked


def _power(base: Any, exponent: Value) -> Any:
    """`base` is an mpmath number. A rational exponent keeps its parity, so odd roots of negative reals stay real."""
    if abs(exponent) > MAX_EXPONENT:
        raise TooLarge("an exponent")
    if not base and mpmath.re(_real(exponent)) <= 0:
        raise ZeroDivisionError
    if not isinstance(exponent, Fraction):
        return mpmath.power(base, exponent)
    if isinstance(base, mpmath.mpf) and base < 0 and exponent.denominator > 1 and exponent.denominator % 2:
        return (-1) ** exponent.numerator * mpmath.power(-base, _real(exponent))
    return mpmath.power(base, exponent.numerator if exponent.denominator == 1 else _real(exponent))


def _root(value: Any, degree: Any) -> Any:
    whole = mpmath.isint(degree) and degree
    return _power(value, Fraction(1, int(degree)) if whole else 1 / degree)


_NUMERIC: dict[str, Callable[..., Any]] = {
    "neg": lambda a: -a,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": _power,
    "root": _root,
    "abs": abs,
    "floor": mpmath.floor,
    "ceil": mpmath.ceil,
    "!": _moderate(mpmath.factorial),
    "binom": _moderate(mpmath.binomial),
    "ln": mpmath.log,
    "lg": mpmath.log10,
    "log_base": lambda a, b: mpmath.log(a) / mpmath.log(b),
    "exp": _moderate(mpmath.exp),
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "arccot": mpmath.acot,
    "arcsec": mpmath.asec,
    "arccsc": mpmath.acsc,
    "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "max": max,
    "min": min,
    "cis": lambda a: mpmath.cos(a) + mpmath.mpc(0, 1) * mpmath.sin(a),
    "sgn": mpmath.sign,
    **{
        name: _moderate(getattr(mpmath, name))
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
    },
}
