r"""Scalar mathematics: a parser from tokens to a small tree. It computes nothing, so no spelling can make it run away.

What the grammar does not know raises `Unreadable`; it never guesses. Conventions where school notation is ambiguous:
`2\frac{1}{2}` and `2 1/2` are mixed numbers, `a/bc` is `(a/b)c`, `\sin 2x \cos x` is a product, `f(x)` is a function's
value where the letter usually names a function (`APPLIED`), and `dx`, `y'`, `\vec{a}`, `\angle ABC` are single names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.tokens import FUNCTIONS, Tokens, closing, is_number, is_word, split


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
_DIFFERENTIALS = frozenset(f"d{letter}" for letter in "xyztuvrs")
_GREEK = frozenset(
    r"""\alpha \beta \gamma \delta \epsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi \rho \sigma \tau \upsilon
    \phi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Xi \Sigma \Phi \Psi \Omega \ell""".split()  # noqa: SIM905
)
_INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")}
APPLIED = frozenset("fghFGHPOTE") | {"\\Theta", "\\phi", "\\psi", "\\Phi", "\\Gamma"}
"""Names that a parenthesis right behind makes a function's value."""
_TRANSPOSED = frozenset(["T", "\\top", "\\dagger"])
_UNIT_VECTORS = frozenset(["i", "j", "k"])
_ACCENTS = frozenset(["\\bar", "\\vec", "\\hat", "\\tilde", "\\dot", "\\ddot", "\\check", "\\breve", "\\mathring"])
_FIGURES = frozenset(["\\angle", "\\triangle", "\\odot", "\\partial", "\\Delta"])
"""Signs that make one name together with the letters behind them."""
_OF_SEVERAL = frozenset(["\\max", "\\min", "\\gcd", "\\lcm"])
_REPEATED = frozenset(["\\sum", "\\prod"])
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "|": "|"}
_DECIMAL = re.compile(r"(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")


def number(lexeme: str) -> Fraction:
    """The exact value of a decimal numeral; thousands separators are ignored. Raises Unreadable."""
    match = _DECIMAL.fullmatch(lexeme.replace(",", ""))
    if not match or not lexeme[:2].strip("."):
        raise Unreadable(lexeme)
    whole, part, exponent = match.group(1), match.group(2) or "", int(match.group(3) or 0)
    return Fraction(int((whole + part) or "0")) * Fraction(10) ** (exponent - len(part))


def parse(tokens: Tokens) -> Expr:
    """The tree of a scalar. Raises Unreadable."""
    return _Parser(tokens).whole()


class _Parser:
    """Recursive descent; one method per level of precedence."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.at = 0
        self.bars = 0
        self.bound: tuple[str, ...] = ()

    def whole(self) -> Expr:
        tree = self.sum()
        if self.at != len(self.tokens):
            raise Unreadable(f"unexpected {self.peek()}")
        return tree

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
                sign = self.take()
                other = self.signed()
                if sign == "\\times" and _is_vector(tree) and _is_vector(other):
                    tree = Call("cross()", (tree, other))
                else:
                    tree = Call("*" if sign in ("\\cdot", "\\times") else "/", (tree, other))
            elif self.starts_factor() or (self.may_go_on(tree) and is_number(self.peek())):
                tree = Call("*", (tree, self.power()))
            else:
                return tree

    def may_go_on(self, tree: Expr) -> bool:
        """Whether a numeral right behind is a factor, as in `i4` and `3!7!`."""
        return tree == Symbol("i") or self.tokens[self.at - 1] == "!"

    def signed(self) -> Expr:
        if self.peek() in ("+", "-"):
            return Call("neg", (self.signed(),)) if self.take() == "-" else self.signed()
        return self.power()

    def starts_factor(self) -> bool:
        """Whether the next token continues a product without a sign. A numeral after anything else would be a guess."""
        token = self.peek()
        if token == "|":
            return self.bars == 0
        return (
            token in _PAIRS
            or _starts_name(token)
            or token in ("\\frac", "\\sqrt", "\\binom")
            or token in _REPEATED
            or token in _OF_SEVERAL
            or token[1:] in FUNCTIONS
        )

    def power(self) -> Expr:
        tree = self.atom()
        while True:
            if self.peek() == "!":
                self.take()
                double = self.peek() == "!" and bool(self.take())
                tree = Call("!!" if double else "!", (tree,))
            elif self.peek() == "\\degree":
                tree = self.degrees(tree)
            elif self.peek() == "%":
                self.take()
                tree = Call("/", (tree, Number(Fraction(100))))
            elif self.peek() == "^" and self.peek(1) in _TRANSPOSED and isinstance(tree, Symbol):
                tree = Symbol(f"{tree.name}{self.take()}{self.take()}")
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
        if token in _REPEATED:
            return self.repeated(token[1:])
        if token == "\\int":
            return self.integral()
        if token in _OF_SEVERAL:
            return self.of_several(token[1:])
        if _starts_name(token):
            return self.name(token)
        raise Unreadable(f"unexpected {token}")

    def repeated(self, op: str) -> Expr:
        r"""`\sum_{k=1}^{n} ...`, and `\prod`: the variable, its first and last value, and the terms."""
        self.take("_")
        self.take("{")
        name = self.take()
        variable = Symbol(BOUND + name)
        self.bound += (name,)
        self.take("=")
        first = self.sum()
        self.take("}")
        self.take("^")
        last = self.exponent()
        body = self.product()
        self.bound = self.bound[:-1]
        return Call(op, (variable, first, last, body))

    def integral(self) -> Expr:
        r"""`\int_a^b ... dx`: the variable, the ends and what is integrated."""
        self.take("_")
        low = self.limit()
        self.take("^")
        high = self.limit()
        until = next((i for i in range(self.at, len(self.tokens)) if self.tokens[i] in _DIFFERENTIALS), None)
        if until is None or until == self.at:
            raise Unreadable("an integral without differential")
        name = self.tokens[until][1:]
        parser = _Parser(self.tokens[self.at : until])
        parser.bound = (*self.bound, name)
        inner = parser.whole()
        self.at = until + 1
        return Call("int", (Symbol(BOUND + name), low, high, inner))

    def of_several(self, op: str) -> Expr:
        end = closing(self.tokens, self.at) if self.peek() in ("(", "\\{") else -1
        if end < 0:
            raise Unreadable(f"{op} without arguments in brackets")
        inner = self.tokens[self.at + 1 : end]
        self.at = end + 1
        return Call(op, tuple(parse(argument) for argument in split(inner, (",",))))

    def limit(self) -> Expr:
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.limit(),))
        return self.atom()

    def numeral(self, token: str) -> Expr:
        value = number(token)
        if self.peek() in ("\\bar", "\\dot") and "." in token:
            value += _repeating(token, self.repeating_digits())
        elif self.peek() == "\\ldots":
            value = _going_on(token)
            self.take()
        if value.denominator == 1 and "." not in token and (part := self.mixed_part()):
            value += part
        return Number(value)

    def repeating_digits(self) -> str:
        r"""The digits under one bar, or between and under two dots, as in `0.\dot{1}4\dot{2}`."""
        if self.take() == "\\bar":
            return self.digits()
        found = self.digits()
        while self.peek() == "\\dot" or (self.peek().isdigit() and self.peek(1) == "\\dot"):
            found += self.digits() if self.take() == "\\dot" else self.tokens[self.at - 1]
        return found

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
        if _starts_name(token):
            return self.name(token)
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
                base = self.log_base()
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

    def log_base(self) -> Expr:
        r"""A subscript. TeX takes one digit (`\log_23`), but `log_10 5` has a whole number in front of an argument."""
        if is_number(self.peek()) and not self.peek(1):
            return self.argument()
        return self.atom()

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
        """A variable with its accent, subscript and primes; a function's value where arguments follow one."""
        if token in _ACCENTS:
            name = self.accented(token)
        elif token in _FIGURES:
            name = self.figure(token)
        else:
            name = token.removeprefix("~")
        if self.peek() == "_":
            self.take()
            index = self.subscript()
            if index in self.bound:  # a term of a sequence
                return Call(f"{name}_()", (Symbol(BOUND + index),))
            name += f"_{index}"
        elif name in self.bound:
            name = BOUND + name
        while self.peek() == "'":
            name += self.take()
        if token in APPLIED and (order := self.order_of_derivative()):
            name += "'" * order
        if (token in APPLIED or name.endswith("'")) and self.peek() in ("(", "["):
            return self.application(name)
        return Symbol(name)

    def order_of_derivative(self) -> int:
        """3 of `f^{(3)}`, 0 where no such thing follows."""
        found = self.tokens[self.at : self.at + 6]
        if found[:3] != ("^", "{", "(") or found[4:] != (")", "}") or not found[3].isdigit() or len(found[3]) > 1:
            return 0
        self.at += 6
        return int(found[3])

    def accented(self, accent: str) -> str:
        inner = self.braced() if self.peek() == "{" else (self.take(),)
        if inner[:1] == ("\\vec",):
            accent, inner = "\\vec", inner[1:]
        if accent == "\\hat" and inner[-1:] and inner[-1] in _UNIT_VECTORS:
            accent = "\\vec"
        if accent in ("\\dot", "\\ddot") and len(inner) == 1:
            return inner[0] + "'" * (1 + (accent == "\\ddot"))  # a derivative by time
        if accent == "\\bar" and len(inner) == 2 and "".join(inner).isupper():
            inner = tuple(sorted(inner))  # a segment has no direction
        return f"{accent} {''.join(inner)}"

    def figure(self, sign: str) -> str:
        letters = ""
        one = sign in ("\\partial", "\\Delta")
        while len(self.peek()) == 1 and self.peek().isalpha() and (not letters or not one or self.peek().isupper()):
            letters += self.take()
        if not letters and (is_word(self.peek()) or self.peek() in _GREEK):
            letters = self.take().removeprefix("~")
        if sign == "\\angle" and len(letters) == 3:
            letters = min(letters, letters[::-1])
        return f"{sign} {letters}" if letters else sign

    def braced(self) -> Tokens:
        """The tokens of a group in braces, unread."""
        end = closing(self.tokens, self.at)
        if end < 0:
            raise Unreadable("a brace that is not closed")
        inner = self.tokens[self.at + 1 : end]
        self.at = end + 1
        return inner

    def subscript(self) -> str:
        return "".join(self.braced() if self.peek() == "{" else (self.take(),))

    def application(self, name: str) -> Expr:
        """The value of a function nobody defined; arguments that are no scalars are compared by their spelling."""
        end = closing(self.tokens, self.at)
        inner = self.tokens[self.at + 1 : end]
        if end < 0 or not inner:
            raise Unreadable("a function without arguments")
        self.at = end + 1
        try:
            return Call(f"{name}()", tuple(parse(argument) for argument in split(inner, (",", ";"))))
        except Unreadable:
            return Symbol(f"{name}({' '.join(inner)})")


def _is_vector(tree: Expr) -> bool:
    return isinstance(tree, Symbol) and tree.name.startswith("\\vec ")


def _starts_name(token: str) -> bool:
    return (
        _is_name(token)
        or token in _ACCENTS
        or token in _FIGURES
        or token in _DIFFERENTIALS
        or is_figure(token)
        or (is_word(token) and len(token) == 2)
    )


def is_figure(token: str) -> bool:
    """`ABC`, a word token of capitals: the name of a figure."""
    return is_word(token) and len(token) > 3 and token[1:].isupper() and token[1:].isascii()


def _is_name(token: str) -> bool:
    return (len(token) == 1 and token.isascii() and token.isalpha()) or token in _GREEK or token in CONSTANTS


def _repeating(token: str, digits: str) -> Fraction:
    r"""What `\overline{digits}` adds behind the decimals of `token`: digits / (10^n - 1), shifted by those decimals."""
    shift = len(token.partition(".")[2])
    return Fraction(int(digits), (10 ** len(digits) - 1) * 10**shift)


BOUND = "bound "
"""Prefix of the name of a bound variable, which keeps it apart from others and from the imaginary unit."""
BINDING = frozenset(["sum", "prod", "int"])
"""Operations whose first argument is a bound variable."""


def _going_on(token: str) -> Fraction:
    """The value of `0.363636...`, whose block of decimals is written out twice, or three times if one digit."""
    decimals = token.partition(".")[2]
    for size in range(1, len(decimals) // 2 + 1):
        block = decimals[-size:]
        if decimals.endswith(block * (3 if size == 1 else 2)):
            return number(token) + _repeating(token, block)
    raise Unreadable("decimals that go on in an unknown way")


def symbols(tree: Expr) -> frozenset[str]:
    """Names of the free variables."""
    if isinstance(tree, Symbol):
        return frozenset() if tree.name in CONSTANTS else frozenset([tree.name])
    if isinstance(tree, Call) and tree.op in BINDING:
        bound, *ends, body = tree.args
        return frozenset().union(*map(symbols, ends)) | (symbols(body) - symbols(bound))
    return frozenset().union(*map(symbols, tree.args)) if isinstance(tree, Call) else frozenset()


def put(tree: Expr, name: str, value: Expr) -> Expr:
    """`tree` with `value` for the variable `name`."""
    if isinstance(tree, Symbol):
        return value if tree.name == name else tree
    return Call(tree.op, tuple(put(arg, name, value) for arg in tree.args)) if isinstance(tree, Call) else tree


def sorted_tree(tree: Expr) -> Expr:
    """`tree` with the terms of sums and the factors of products in one order, and nothing computed."""
    if not isinstance(tree, Call):
        return tree
    args = tuple(sorted_tree(arg) for arg in tree.args)
    if tree.op in ("+", "*"):
        flat = [part for arg in args for part in (arg.args if isinstance(arg, Call) and arg.op == tree.op else (arg,))]
        args = tuple(sorted(flat, key=repr))
    return Call(tree.op, args)


def mentions(tree: Expr, name: str) -> bool:
    """Whether a symbol or an operation of this name stands in the tree."""
    if isinstance(tree, Call):
        return tree.op == name or any(mentions(arg, name) for arg in tree.args)
    return isinstance(tree, Symbol) and tree.name == name
