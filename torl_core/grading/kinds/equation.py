r"""What an equals sign makes: a labelled value (`x = 5`, `f(x) = 2x`, `|AB| = 5`), an equation, a chain of equal sides.

- A label may be missing on either side, and an expression may label a number: `m+n = 55` is 55. An equation whose left
  side is no name is never the value of its right side: `5` is not the line `x+y = 5`'s answer sheet.
- Two equations agree when they differ by a non-zero constant factor.
- A chain has the value of its last side; a chain that contradicts itself (`3 = 7`) has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import BINDING, Call, Expr, Number, Symbol, Unreadable, parse, put, symbols
from torl_core.grading.kinds.base import Answer, Kinds, OneOf, parts_of
from torl_core.grading.kinds.bracket import both_signs
from torl_core.grading.kinds.quantity import Quantity, marked
from torl_core.grading.tokens import Tokens, closing, is_word, split, vocabulary
from torl_core.grading.values import Undefined, difference, proportional, same_value


@dataclass(frozen=True, slots=True)
class Assignment(Answer):
    """`name = value`; the name as tokens."""

    name: Tokens
    value: Answer


@dataclass(frozen=True, slots=True)
class Record(Answer):
    """Values with names, all different, in the order of writing; `joined` is `or` or `and` if said."""

    items: tuple[Assignment, ...]
    joined: str = ""

    @property
    def values(self) -> tuple[Answer, ...]:
        return tuple(item.value for item in self.items)

    @property
    def solutions(self) -> bool:
        """Whether the names differ by their index alone."""
        return len({base(item.name) for item in self.items}) == 1


@dataclass(frozen=True, slots=True)
class Equation(Answer):
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Chain(Answer):
    """Several sides with variables, as in the symmetric equations of a line."""

    sides: tuple[Expr, ...]


_SIGNS_OF_NAMES = vocabulary(r"( ) { } _ , ' | [ ] : # \angle \triangle \bar \vec \hat \{ \}")
_ZERO = Number(Fraction(0))
_DENIALS = ("\\neg", "\\not", "\\pm", "\\forall", "\\exists", "<", ">", "\\leq", "\\geq", "\\neq", "\\to", "?")
_NO_NAMES = vocabulary(
    r"\pi \infty \frac \sqrt \degree \pm \mp \cdot \times \emptyset \not \sum \prod \int \forall \exists \neg"
)


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    parts = parts_of(split(tokens, ("=",)))
    if len(parts) < 2:
        return _named_point(tokens, kinds)
    if signs := both_signs(tokens, kinds):
        return signs
    return _equality(parts, kinds)


def _named_point(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """`P(2,-1)`: a point with its name. `C(9,4)` may also be a number of combinations."""
    at = tokens.index("(") if "(" in tokens else 0
    name, point = tokens[:at], tokens[at:]
    capital = bool(name) and len(name[0]) == 1 and name[0].isupper() and not any(map(str.isalpha, name[1:]))
    if not capital or closing(point, 0) != len(point) - 1 or len(split(point[1:-1], (",",))) < 2:
        return None
    if not is_name(name):
        return None
    named = Assignment(name, kinds.read(point))
    chosen = split(point[1:-1], (",",))
    if name == ("C",) and len(chosen) == 2 and all(len(part) == 1 and part[0].isdigit() for part in chosen):
        return OneOf((named, kinds.read(("\\binom", "{", *chosen[0], "}", "{", *chosen[1], "}"))))
    return named


def _equality(parts: list[Tokens], kinds: Kinds) -> Answer:
    if len(parts) == 2 and is_name(parts[1]) and not is_name(parts[0]) and not any(is_word(t) for t in parts[1]):
        parts = parts[::-1]
    *names, last = parts
    if len(names) > 1 and len(set(parts)) == len(parts) and all(len(name) == 1 and is_name(name) for name in names):
        value = kinds.read(last)  # x = y = 1
        return Record(tuple(Assignment(name, value) for name in names))
    if is_name(parts[0]):
        value = kinds.read(parts[1]) if len(parts) == 2 else _equality(parts[1:], kinds)
        return Assignment(_plain_name(parts[0]), value)
    try:
        answers = [kinds.read(part) for part in parts]
    except Unreadable:
        return _labelled(parts, kinds)
    sides = [answer.tree for answer in answers if isinstance(answer, Quantity)]
    if len(sides) < len(parts):
        return _labelled(parts, kinds)
    variables = [bool(symbols(side)) for side in sides]
    if len(sides) == 2 and any(variables):
        return Equation(*sides)
    if variables[0] and not any(variables[1:]):
        return Equation(sides[0], _chain(answers[1:]).tree)
    if any(variables) and not _all_same(answers):
        return Chain(tuple(sides))
    return _chain(answers)


def _labelled(parts: list[Tokens], kinds: Kinds) -> Assignment:
    """A number with a label that is no name: `f(1) + \\cdots + f(9) = 45`. Raises Unreadable for anything else."""
    value = kinds.read(parts[-1])
    label = parts[0]
    plain = isinstance(value, Quantity) and not symbols(value.tree)
    if len(parts) > 2 or not plain or any(map(is_word, label)) or len(split(label, _DENIALS)) > 1:
        raise Unreadable("an equation that is not understood")
    return Assignment(label, value)


def _chain(sides: list[Answer]) -> Quantity:
    """The last side. Raises Unreadable where the sides contradict one another."""
    quantities = [side for side in sides if isinstance(side, Quantity)]
    if not _all_same(sides):
        raise Unreadable("sides that are not equal")
    return quantities[-1]


def _all_same(sides: list[Answer]) -> bool:
    first, *others = [marked(side) for side in sides if isinstance(side, Quantity)]
    try:
        return all(same_value(first, other) for other in others)
    except Undefined:
        return False


def is_name(tokens: Tokens) -> bool:
    r"""Whether this can stand left of a definition: `x`, `AB`, `a_1`, `f(x)`, `|AB|`, `\text{area}`, `dy/dx`."""
    if not tokens or tokens in (("e",), ("i",)) or tokens[0].isdigit():
        return False
    if tokens[0] == "\\frac":
        return _is_derivative(tokens)
    if tokens[1:6] == ("^", "{", "-", "1", "}"):  # f^{-1}(x)
        tokens = (tokens[0], *tokens[6:])
    if tokens[0].isalpha() and tokens[1:2] == ("(",) and closing(tokens, 1) == len(tokens) - 1:
        return tokens[0] in "fghFGHPEVTSpqruvwy" or all(len(token) == 1 and token.isalpha() for token in tokens[2:-1:2])
    allowed = all(
        is_word(token)
        or token in _SIGNS_OF_NAMES
        or (len(token) == 1 and token.isalpha())
        or (len(token) == 2 and token[0] == "d")
        or (token[0] == "\\" and token[1:].isalpha() and token not in _NO_NAMES)
        or (token.isdigit() and i > 0 and tokens[i - 1] in ("_", "{"))
        for i, token in enumerate(tokens)
    )
    return allowed and any(token not in _SIGNS_OF_NAMES for token in tokens)


def _plain_name(name: Tokens) -> Tokens:
    r"""`y'` for `\frac{dy}{dx}` and `\dot{y}`."""
    spelled = tuple(token for token in name if token not in ("{", "}"))
    if len(spelled) == 3 and spelled[0] == "\\frac" and spelled[1][0] == spelled[2][0] == "d":
        return (spelled[1][1:], "'")
    if spelled[:4] == ("\\frac", "d", "^", "2") and len(spelled) == 8 and spelled[5][0] == "d":
        return (spelled[4], "'", "'")
    if len(spelled) == 2 and spelled[0] == "\\dot":
        return (spelled[1], "'")
    return name


def _is_derivative(tokens: Tokens) -> bool:
    r"""`\frac{dy}{dx}` and `\frac{\partial f}{\partial x}`."""
    names = [token for token in tokens[1:] if token not in ("{", "}")]
    known = all(
        token in ("^", "2", "3", "\\partial") or token[0] == "d" or (len(token) == 1 and token.isalpha())
        for token in names
    )
    return known and len(names) >= 2 and any(token[0] == "d" or token == "\\partial" for token in names)


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Assignment(), Assignment():
            if base(gold.name) == base(answer.name) and (gold.name == answer.name or _unindexed(gold, answer)):
                return kinds.same(gold.value, answer.value)
            return _same_equation(_as_equation(gold), _as_equation(answer))
        case (Assignment() | Equation(), Assignment() | Equation()):
            return _same_equation(_as_equation(gold), _as_equation(answer))
        case Equation(), Quantity():
            return _is_label(gold.left) and same_value(gold.right, answer.tree)
        case Quantity(), Equation():
            return _labels_number(answer) and kinds.same(gold, Quantity(answer.right))
        case Chain(), Chain():
            return _same_chain(gold.sides, answer.sides)
        case Assignment(value=value), _:
            return kinds.same(value, answer)
        case _, Assignment(value=value):
            return kinds.same(gold, value)
        case (Equation() | Chain(), _) | (_, Equation() | Chain()):
            return False
    return None


def _same_chain(gold: tuple[Expr, ...], answer: tuple[Expr, ...]) -> bool:
    """Side by side the same, or the same multiple throughout."""
    if len(gold) != len(answer) or not proportional(gold[0], answer[0]):
        return False
    return all(
        same_value(Call("*", (a, answer[0])), Call("*", (b, gold[0]))) for a, b in zip(gold, answer, strict=True)
    )


def base(name: Tokens) -> Tokens:
    """The name without its index: `x` of `x_1`."""
    return name[: name.index("_")] if "_" in name and name.index("_") else name


def _unindexed(gold: Assignment, answer: Assignment) -> bool:
    return base(gold.name) in (gold.name, answer.name)


def _solves(solved: Equation, other: Expr) -> bool:
    """Whether `y = ...` is what `other = 0`, linear in y, gives for y."""
    if not isinstance(solved.left, Symbol) or solved.left.name in symbols(solved.right):
        return False
    name = solved.left.name
    at = [put(other, name, Number(Fraction(k))) for k in (-1000, 0, 1000, 1, 2)]
    slope = difference(at[1], at[0])
    if same_value(slope, _ZERO) or not same_value(slope, difference(at[2], at[1])):
        return False
    if not same_value(difference(at[3], at[1]), difference(at[4], at[3])):
        return False
    return same_value(put(other, name, solved.right), _ZERO)


def _is_label(left: Expr) -> bool:
    """Whether an expression on an answer sheet only labels its value: a modulus, a function's value, a derivative."""
    return (not isinstance(left, Symbol) and getattr(left, "op", "") == "abs") or getattr(left, "op", "").endswith("()")


def _labels_number(equation: Equation) -> bool:
    r"""`m+n = 55` labels the number 55; `x^2-5x+6 = 0` does not say 0, and `2x+y = z` says no number."""
    if isinstance(equation.left, Call) and equation.left.op in BINDING:
        return True  # what a sum or an integral comes to
    if symbols(equation.right):
        return False
    return _is_label(equation.left) or not same_value(equation.right, _ZERO)


def _as_equation(answer: Answer) -> Equation | None:
    if isinstance(answer, Equation):
        return answer
    if not isinstance(answer, Assignment) or not isinstance(answer.value, Quantity):
        return None
    try:
        return Equation(parse(answer.name), answer.value.tree)
    except Unreadable:
        return None


def _same_equation(gold: Equation | None, answer: Equation | None) -> bool:
    if not gold or not answer:
        return False
    if not any(symbols(side) for side in (gold.left, gold.right, answer.left, answer.right)):
        return same_value(gold.left, answer.left) and same_value(gold.right, answer.right)
    left, right = difference(gold.left, gold.right), difference(answer.left, answer.right)
    if same_value(left, _ZERO) and same_value(right, _ZERO):  # identities, which are all true
        pairs = ((answer.left, answer.right), (answer.right, answer.left))
        return any(same_value(gold.left, a) and same_value(gold.right, b) for a, b in pairs)
    return proportional(left, right) or _solves(gold, right) or _solves(answer, left)
