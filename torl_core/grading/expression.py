r"""Scalar mathematics: a parser from tokens to a small tree. It computes nothing, so no spelling can make it run away.

What the grammar does not know raises `Unreadable`; it never guesses. Conventions where school notation is ambiguous:
`2\frac{1}{2}` and `2 1/2` are mixed numbers, `a/bc` is `(a/b)c`, `\sin 2x \cos x` is a product.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.normalise import FUNCTIONS, Tokens


class Unreadable(Exception):
    """This spelling is not in the grammar."""


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
    r"""\alpha \beta \gamma \delta \epsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi \rho \sigma \tau \upsilon
    \phi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Xi \Sigma \Phi \Psi \Omega \ell""".split()  # noqa: SIM905
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
