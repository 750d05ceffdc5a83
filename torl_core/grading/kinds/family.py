r"""Answers with a parameter or a constant that may have any name: `\frac{\pi}{4}+k\pi, k\in\mathbb{Z}`, `y = Ce^{2x}`,
`f(x) = cx` for any constant `c`.

What says where the parameter lies may be missing on one side; two that differ are two answers. A constant of
integration may have another name and absorb a number: `\tan x + C` is `\tan x + 1 + C`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations
from typing import Any

from torl_core.grading.expression import Call, Expr, Number, Symbol, put, symbols
from torl_core.grading.kinds import equation
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.equation import Assignment, Equation
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import WORD, Tokens, closing, is_word, vocabulary
from torl_core.grading.values import differ_by_constant, difference, is_whole, same_value


@dataclass(frozen=True, slots=True)
class Family(Answer):
    """An answer for every value of the parameters `names` in `domain`, which is empty where nothing is said."""

    answer: Answer
    names: tuple[str, ...]
    domain: str = ""


_OPENERS = frozenset(["~where", "~for", "~with", "~when", "~and", "~as", ",", "(", ";"])
_FILLERS = vocabulary(
    """
    where for with all any every each some real is an a are arbitrary constant constants number numbers
    parameter and as when nonzero as denotes being given values value of the
    """,
    prefix=WORD,
)  # fmt: skip
_LINKS = frozenset(["~and", "~a", "~an", "~the", "~as", "~of", "~is", "~are"])
_RELATIONS = frozenset(["<", ">", "\\leq", "\\geq", "\\neq"])
_DOMAINS = {
    "\\integers": "integers", "~integer": "integers", "~integers": "integers", "Z": "integers", "~z": "integers",
    "\\naturals": "naturals", "N": "naturals", "~natural": "naturals", "\\reals": "reals", "R": "reals",
    "~real": "reals",
}  # fmt: skip
_OF_INTEGRATION = frozenset(["C", "K", "C_1", "C_2", "C_3", "c_1", "c_2", "c_3"])
_CONSTANTS = _OF_INTEGRATION | {"c", "k"}
_ANSWERED = frozenset(["A", "B"])
"""Names that an answer may give to constants. On an answer sheet they are rather quantities of the problem."""
_VARIABLES = frozenset("xyztuvwrsfg") | {"\\theta", "\\phi"}
"""What a constant of integration stands beside. Beside `a` or `n`, a `c` is a quantity of the problem."""
_MAX_CONSTANTS = 3


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if condition := _condition(tokens):
        return Family(kinds.read(tokens[:condition]), (), " ".join(tokens[condition + 1 : -1]))
    for i in range(1, len(tokens) - 1):
        if tokens[i] in _OPENERS and (found := qualifier(tokens[i:])) and _at_top(tokens, i):
            return Family(kinds.read(tokens[:i]), *found)
    return None


def _condition(tokens: Tokens) -> int:
    r"""Where a closing condition such as `(x \neq 0)` begins; 0 where there is none."""
    at = next((i for i in range(1, len(tokens)) if tokens[i] == "(" and closing(tokens, i) == len(tokens) - 1), 0)
    inner = tokens[at + 1 : -1]
    return at if at and "," not in inner and any(token in _RELATIONS for token in inner) else 0


def _at_top(tokens: Tokens, end: int) -> bool:
    return not any(closing(tokens, i) >= end for i in range(end) if tokens[i] in ("(", "[", "{", "\\{", "\\langle"))


def qualifier(tokens: Tokens) -> tuple[tuple[str, ...], str] | None:
    r"""The parameters and their domain, if nothing else is said: `, k \in \mathbb{Z}`, `where n is an integer`."""
    if tokens[0] == "(":
        if closing(tokens, 0) != len(tokens) - 1:
            return None
        tokens = tokens[:-1]
    opener, rest = tokens[0], [token for token in tokens[1:] if token not in ("\\forall", "\\ ")]
    domain, positive, names = "", "", []
    at = 0
    while at < len(rest):
        token = rest[at]
        if token in _DOMAINS and (token[0] in "~\\" or (at and rest[at - 1] == "\\in")):
            domain = _DOMAINS[token]
            if rest[at + 1 : at + 2] in (["^"], ["_"]):
                positive = " ".join(rest[at + 1 :])
                break
        elif token in ("~positive", "~nonnegative", "~negative"):
            positive = token
        elif _names(token) and (
            at == 0 or rest[at - 1] in (",", "~and") or rest[at - 1] in _FILLERS or is_word(rest[at - 1])
        ):
            name = token
            if rest[at + 1 : at + 2] == ["_"] and at + 2 < len(rest):
                name, at = f"{token}_{rest[at + 2]}", at + 2
            names.append(name)
        elif token not in _FILLERS and token not in (",", "\\in"):
            return None
        at += 1
    words = any(token in _FILLERS - _LINKS for token in rest)
    said = domain or opener in ("~where", "~for", "~with") or "\\forall" in tokens or words
    if not names or not said or (opener in (",", ";", "(", "~and") and not (domain or words)):
        return None
    return tuple(names), f"{domain} {positive}".strip()


def _names(token: str) -> bool:
    return (len(token) == 1 and token.isalpha()) or token in ("\\alpha", "\\beta", "\\lambda", "\\mu", "\\theta")


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if isinstance(gold, Family) or isinstance(answer, Family):
        return _same_families(gold, answer, kinds)
    if type(gold) is not type(answer) or not isinstance(gold, Quantity | Assignment | Equation):
        return None
    return _same_up_to_constants(gold, answer, kinds)


def _same_families(gold: Answer, answer: Answer, kinds: Kinds) -> bool:
    (left, names, domain), (right, others, other) = (
        (a.answer, a.names, a.domain) if isinstance(a, Family) else (a, (), "") for a in (gold, answer)
    )
    if domain and other and domain != other:
        return False
    free, bound = _free(left) - _free(right), _free(right) - _free(left)
    if len(free) == len(bound) == 1 and free <= set(names or free) and bound <= set(others or bound):
        (new,), (old,) = free, bound
        right = _renamed(right, old, new)
    return kinds.same(left, right) or _shifted(left, right, names or tuple(_free(left) & set(others)), domain or other)


def _shifted(gold: Answer, answer: Answer, names: tuple[str, ...], domain: str) -> bool:
    r"""Whether two families over all whole numbers are one: `\frac{\pi}{4}+k\pi` is `\frac{5\pi}{4}+k\pi`."""
    gold, answer = (a.value if isinstance(a, Assignment) else a for a in (gold, answer))
    if domain != "integers" or len(names) != 1 or not (isinstance(gold, Quantity) and isinstance(answer, Quantity)):
        return False
    name = names[0]
    start, step = _line(gold.tree, name), _line(answer.tree, name)
    if not start or not step or symbols(gold.tree) | symbols(answer.tree) != {name}:
        return False
    (p, q), (r, s) = start, step
    same_step = same_value(q, s) or same_value(q, Call("neg", (s,)))
    return same_step and is_whole(Call("/", (difference(p, r), q)))


def whole_line(family: Family) -> tuple[Expr, Expr] | None:
    """Start and step of a family over all whole numbers that is linear in its one parameter."""
    answer = family.answer.value if isinstance(family.answer, Assignment) else family.answer
    if family.domain != "integers" or len(family.names) != 1 or not isinstance(answer, Quantity):
        return None
    return _line(answer.tree, family.names[0]) if symbols(answer.tree) == {family.names[0]} else None


def _line(tree: Expr, name: str) -> tuple[Expr, Expr] | None:
    """Value at 0 and step, if the tree is linear in `name`."""
    at = [put(tree, name, Number(Fraction(k))) for k in (0, 1, 2)]
    step = difference(at[1], at[0])
    if same_value(step, Number(Fraction(0))) or not same_value(step, difference(at[2], at[1])):
        return None
    return at[0], step


def _same_up_to_constants(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    """Only where both have constants of integration; None leaves the two to the other kinds."""
    names, others = sorted(_free(gold) & _CONSTANTS), sorted(_free(answer) & (_CONSTANTS | _ANSWERED))
    rest = _free(gold) - _CONSTANTS
    if not names or len(names) != len(others) or len(names) > _MAX_CONSTANTS or not rest:
        return None
    if rest != _free(answer) - set(others) or not rest <= _VARIABLES:
        return None
    if len(names) > 1 and not set(names) <= _OF_INTEGRATION:
        return None  # `k` and `c` together are quantities of the problem
    for order in permutations(names):
        renamed = answer
        for i, old in enumerate(others):
            renamed = _renamed(renamed, old, f"constant {i}")
        for i, new in enumerate(order):
            renamed = _renamed(renamed, f"constant {i}", new)
        if _same_but_for_numbers(gold, renamed, names, kinds):
            return True
    return None


def _same_but_for_numbers(gold: Answer, answer: Answer, names: list[str], kinds: Kinds) -> bool:
    if gold == answer or (isinstance(gold, Assignment | Equation) and equation.same(gold, answer, kinds)):
        return True
    left, right = (a.value if isinstance(a, Assignment) else a for a in (gold, answer))
    if not (isinstance(left, Quantity) and isinstance(right, Quantity)):
        return False
    if same_value(left.tree, right.tree):
        return True
    return any(_added(left.tree, right.tree, name) for name in names if name in _OF_INTEGRATION)


def _added(gold: Expr, answer: Expr, name: str) -> bool:
    """Whether both are an expression plus a multiple of the constant `name`, and differ by a constant."""
    rest, other = (put(tree, name, Number(Fraction(0))) for tree in (gold, answer))
    for tree, without in ((gold, rest), (answer, other)):
        slope = difference(put(tree, name, Number(Fraction(1))), without)
        twice = difference(put(tree, name, Number(Fraction(2))), without)
        linear = same_value(Call("*", (Number(Fraction(2)), slope)), twice)
        if not linear or same_value(slope, Number(Fraction(0))) or not differ_by_constant(slope, Number(Fraction(0))):
            return False
    return differ_by_constant(rest, other)


def _free(answer: Any) -> frozenset[str]:
    """Names of the variables anywhere in an answer."""
    if isinstance(answer, Number | Symbol | Call):
        return symbols(answer)
    if isinstance(answer, tuple):
        return frozenset().union(*map(_free, answer))
    if isinstance(answer, Assignment):
        return _free(answer.value)
    if dataclasses.is_dataclass(answer):
        return frozenset().union(*(_free(getattr(answer, field.name)) for field in dataclasses.fields(answer)))
    return frozenset()


def _renamed(answer: Any, old: str, new: str) -> Any:
    if isinstance(answer, Number | Symbol | Call):
        return put(answer, old, Symbol(new))
    if isinstance(answer, tuple):
        return tuple(_renamed(item, old, new) for item in answer)
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
        return dataclasses.replace(answer, **{name: _renamed(value, old, new) for name, value in fields.items()})
    return answer
