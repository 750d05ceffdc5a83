r"""Scalar mathematics: a parser from tokens to a small tree, and the tree's value, exact where it is rational.

Parsing computes nothing, and evaluation bounds every intermediate size, so neither can be made to run away. What the
grammar does not know raises `Unreadable`; it never guesses. Conventions where school notation is ambiguous: `2\frac{1}{2}`
and `2 1/2` are mixed numbers, `a/bc` is `(a/b)c`, `\sin 2x \cos x` is a product, odd roots of negative reals are real.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

from torl_core.grading.normalise import FUNCTIONS, Tokens

MAX_BITS = 100_000
MAX_EXPONENT = 10_000
MAX_ROOT_BITS = 4_000
MAX_FACTORIAL = 5_000
MAX_MAGNITUDE = 20
"""Binary exponent of the largest argument of a transcendental function."""

Value = Fraction | Any
"""A Fraction, or an mpmath number where the value is not rational or not known to be."""


class Unreadable(Exception):  # noqa: N818  (a verdict on a spelling, not a failure)
    """This spelling is not in the grammar."""


class TooLarge(Exception):  # noqa: N818
    """Evaluating this would take numbers beyond the bounds of this module."""


class Undefined(Exception):  # noqa: N818
    """Division by zero, a pole, or another value that does not exist."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    op: str
    args: tuple[Expr, ...]


Expr = Number | Symbol | Call

CONSTANTS = frozenset(["\\pi", "e", "i", "\\infty"])
_GREEK = frozenset(
    "\\" + name
    for name in "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell".split()
)
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "sinh": "arcsinh", "cosh": "arccosh", "tanh": "arctanh"}
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "|": "|"}
_DECIMAL = re.compile(r"(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")


def number(lexeme: str) -> Fraction:
    """The exact value of a decimal numeral; thousands separators are ignored. Raises Unreadable."""
    match = _DECIMAL.fullmatch(lexeme.replace(",", ""))
    if not match or not lexeme[:2].strip("."):
        raise Unreadable(lexeme)
    whole, part, exponent = match.group(1), match.group(2) or "", int(match.group(3) or 0)
    return Fraction(int((whole + part) or "0")) * Fraction(10) ** (exponent - len(part))


def is_number(token: str) -> bool:
    return token[0].isdigit() or (token[0] == "." and len(token) > 1)


def parse(tokens: Tokens) -> Expr:
    """The tree of a scalar. Raises Unreadable."""
    parser = _Parser(tokens)
    tree = parser.sum()
    if parser.at != len(parser.tokens):
        raise Unreadable(f"unexpected {parser.peek()}")
    return tree


class _Parser:
    """Recursive descent; one method per level of precedence."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.at = 0
        self.bars = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        if not token or (expected and token not in expected):
            raise Unreadable(f"expected {' or '.join(expected) or 'more'} and found {token or 'the end'}")
        self.at += 1
        return token

    def sum(self) -> Expr:
        tree = self.product()
        while self.peek() in ("+", "-"):
            op = self.take()
            tree = Call(op, (tree, self.product()))
        return tree

    def product(self) -> Expr:
        tree = self.signed()
        while True:
            if self.peek() in ("\\cdot", "\\times", "/", "\\div"):
                op = "*" if self.take() in ("\\cdot", "\\times") else "/"
                tree = Call(op, (tree, self.signed()))
            elif self.starts_factor():
                tree = Call("*", (tree, self.power()))
            else:
                return tree

    def signed(self) -> Expr:
        if self.peek() in ("+", "-"):
            return Call("neg", (self.signed(),)) if self.take() == "-" else self.signed()
        return self.power()

    def starts_factor(self) -> bool:
        """Whether the next token continues a product without a sign. A numeral after anything else would be a guess."""
        token = self.peek()
        if token == "|":
            return self.bars == 0
        return token in _PAIRS or _is_name(token) or token in ("\\frac", "\\sqrt", "\\binom") or token[1:] in FUNCTIONS

    def power(self) -> Expr:
        tree = self.atom()
        while True:
            if self.peek() == "!":
                self.take()
                tree = Call("!", (tree,))
            elif self.peek() == "\\degree":
                tree = self.degrees(tree)
            elif self.peek() == "%":
                self.take()
                tree = Call("/", (tree, Number(Fraction(100))))
            elif self.peek() == "^":
                self.take()
                tree = Call("^", (tree, self.exponent()))
            else:
                return tree

    def degrees(self, tree: Expr) -> Expr:
        """The tree in radians if a degree sign follows, else itself."""
        if self.peek() != "\\degree":
            return tree
        self.take()
        return Call("*", (tree, Call("/", (Symbol("\\pi"), Number(Fraction(180))))))

    def exponent(self) -> Expr:
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.exponent(),))
        tree = self.atom()
        if self.peek() == "^":
            self.take()
            tree = Call("^", (tree, self.exponent()))
        return tree

    def atom(self) -> Expr:
        token = self.take()
        if is_number(token):
            return self.numeral(token)
        if token in _PAIRS:
            return self.group(token)
        if token == "\\frac":
            return Call("/", (self.argument(), self.argument()))
        if token == "\\binom":
            return Call("binom", (self.argument(), self.argument()))
        if token == "\\sqrt":
            return self.root()
        if token[:1] == "\\" and token[1:] in FUNCTIONS:
            return self.function(token[1:])
        if _is_name(token):
            return self.name(token)
        raise Unreadable(f"unexpected {token}")

    def numeral(self, token: str) -> Expr:
        value = number(token)
        if self.peek() in ("\\overline", "\\bar", "\\dot") and "." in token:
            self.take()
            value += _repeating(token, self.digits())
        if value.denominator == 1 and "." not in token and (part := self.mixed_part()):
            value += part
        return Number(value)

    def digits(self) -> str:
        braced = self.peek() == "{"
        if braced:
            self.take("{")
        token = self.take()
        if braced:
            self.take("}")
        if not token.isdigit():
            raise Unreadable("only digits repeat")
        return token

    def mixed_part(self) -> Fraction | None:
        r"""The proper fraction of a mixed number, in either spelling: `\frac{1}{2}` or `1/2`."""
        start = self.at
        if self.peek() == "\\frac":
            self.take()
            top, bottom = self.argument(), self.argument()
            if isinstance(top, Number) and isinstance(bottom, Number) and 0 < top.value < bottom.value:
                return top.value / bottom.value
        elif self.peek().isdigit() and self.peek(1) == "/" and self.peek(2).isdigit():
            top_, bottom_ = int(self.peek()), int(self.peek(2))
            if 0 < top_ < bottom_:
                self.at += 3
                return Fraction(top_, bottom_)
        self.at = start
        return None

    def argument(self) -> Expr:
        r"""An argument as TeX takes it: a group, or one digit or token."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens = (*self.tokens[: self.at], token[0], token[1:], *self.tokens[self.at + 1 :])
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.argument(),))
        token = self.take()
        if token == "{":
            return self.group(token)
        if is_number(token):
            return Number(number(token))
        if _is_name(token):
            return Symbol(token)
        if token in ("\\frac", "\\sqrt"):
            self.at -= 1
            return self.atom()
        raise Unreadable(f"unexpected {token}")

    def group(self, opening: str) -> Expr:
        self.bars, outer = (self.bars + 1 if opening == "|" else 0), self.bars
        tree = self.sum()
        self.take(_PAIRS[opening])
        self.bars = outer
        return tree if opening in ("(", "[", "{") else Call({"|": "abs"}.get(opening, opening[2:]), (tree,))

    def root(self) -> Expr:
        index: Expr = Number(Fraction(2))
        if self.peek() == "[":
            self.take()
            index = self.group("[")
        return Call("root", (self.atom(), index))

    def function(self, name: str) -> Expr:
        base: Expr | None = None
        power: Expr | None = None
        while self.peek() in ("^", "_"):
            if self.take() == "_":
                base = self.atom()
            else:
                power = self.exponent()
        if power == Call("neg", (Number(Fraction(1)),)):
            name, power = _INVERSES.get(name, ""), None
        if base is not None and name != "log":
            raise Unreadable("a subscript on a function other than log")
        if not name:
            raise Unreadable("no such inverse")
        argument = self.function_argument()
        tree = Call("log_base", (argument, base)) if base is not None else Call(name, (argument,))
        return Call("^", (tree, power)) if power is not None else tree

    def function_argument(self) -> Expr:
        """A group alone when one follows directly; else the factors up to the next function, sign or operator."""
        if self.peek() in ("(", "{", "["):
            tree = self.atom()
            return self.degrees(tree)
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.function_argument(),))
        tree = self.power()
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() not in ("(", "["):
            tree = Call("*", (tree, self.power()))
        return tree

    def name(self, token: str) -> Expr:
        if self.peek() != "_":
            return Symbol(token)
        self.take()
        if self.peek() != "{":
            return Symbol(f"{token}_{self.take()}")
        self.take()
        inner: list[str] = []
        while self.peek() != "}":
            inner.append(self.take())
        self.take("}")
        return Symbol(f"{token}_{''.join(inner)}")


def _is_name(token: str) -> bool:
    return (len(token) == 1 and token.isascii() and token.isalpha()) or token in _GREEK or token in CONSTANTS


def _repeating(token: str, digits: str) -> Fraction:
    r"""What `\overline{digits}` adds behind the decimals of `token`: digits / (10^n - 1), shifted by those decimals."""
    shift = len(token.partition(".")[2])
    return Fraction(int(digits), (10 ** len(digits) - 1) * 10**shift)


def symbols(tree: Expr) -> frozenset[str]:
    """Names of the free variables."""
    if isinstance(tree, Symbol):
        return frozenset() if tree.name in CONSTANTS else frozenset([tree.name])
    return frozenset().union(*map(symbols, tree.args)) if isinstance(tree, Call) else frozenset()


def mentions(tree: Expr, name: str) -> bool:
    """Whether a symbol or an operation of this name stands in the tree."""
    if isinstance(tree, Call):
        return tree.op == name or any(mentions(arg, name) for arg in tree.args)
    return isinstance(tree, Symbol) and tree.name == name


def evaluate(tree: Expr, at: Mapping[str, Value], log_base: int | None = None) -> Value:
    r"""The value at a point, under mpmath's current precision; `log_base` is what a bare `\log` means (None: e).

    Raises TooLarge, Undefined.
    """
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Symbol):
        return _constant(tree.name) if tree.name in CONSTANTS else at[tree.name]
    args = [evaluate(arg, at, log_base) for arg in tree.args]
    if tree.op == "log":
        return _apply("log_base", [args[0], Fraction(log_base)]) if log_base else _apply("ln", args)
    return _apply(tree.op, args)


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
        case "^":
            return _exact_power(a, args[1])
        case "root":
            return _exact_power(a, 1 / args[1])
        case "!" | "binom":
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
        return None
    if max(args) > MAX_FACTORIAL:
        raise TooLarge("a factorial")
    numbers = [arg.numerator for arg in args]
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
    "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    **{name: _moderate(getattr(mpmath, name)) for name in "sin cos tan cot sec csc sinh cosh tanh coth".split()},
}
