r"""Brackets: tuples and intervals `(1,2)`, lists `[1,2]`, sets `\{1,2\}`. Parentheses have an order, braces have none.

`Group` is also what `listing` makes of a list without brackets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from torl_core.grading.expression import Call, Number, Symbol, Unreadable
from torl_core.grading.kinds.base import MAX_ITEMS, Answer, Kinds, OneOf, parts_of
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.kinds.words import Words
from torl_core.grading.tokens import OPENING, Tokens, closing, split


@dataclass(frozen=True, slots=True)
class Group(Answer):
    """Several answers. `kind` is `list` (bare), `set` (braces) or the brackets themselves, as in `(]`.

    `joined` is the `or` or `and` between the items of a list, if it was written.
    """

    kind: str
    items: tuple[Answer, ...]
    joined: str = ""


@dataclass(frozen=True, slots=True)
class Dots(Answer):
    """The dots of a list that goes on."""


BRACKETS = frozenset(["()", "[]", "(]", "[)"])
_SIGNS = ("\\pm", "\\mp")
_MAX_SIGNS = 4


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if tokens == ("\\emptyset",):
        return Group("set", ())
    if tokens[0] in OPENING and closing(tokens, 0) == len(tokens) - 1:
        return _enclosed(tokens[0] + tokens[-1], tokens[1:-1], kinds)
    return both_signs(tokens, kinds)


def _enclosed(kind: str, inner: Tokens, kinds: Kinds) -> Answer | None:
    if kind in ("\\{\\}", "{}"):
        return Group("set", tuple(without_dots(expanded(split(inner, (",", ";")), kinds))))
    kind = "()" if kind == "\\langle\\rangle" else kind
    if inner[:1] == ("{",) and closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
    items = split(inner, (",", ";"))
    if kind in BRACKETS and len(items) > 1:
        if not all(items):
            raise Unreadable("a tuple with an entry left out")
        return _tuples(kind, items, kinds)
    if kind == "()" or (kind == "[]" and inner[:1] and inner[0].startswith("\\begin{")):
        return kinds.read(inner)
    return Group("set", tuple(expanded([inner], kinds))) if kind == "[]" and inner else None


def _tuples(kind: str, items: list[Tokens], kinds: Kinds) -> Answer:
    r"""A tuple; of items with `\pm` all the tuples that they stand for."""
    choices = [both(item, kinds) for item in parts_of(items)]
    if all(len(choice) == 1 for choice in choices) or kind != "()":
        return Group(kind, tuple(item for choice in choices for item in choice))
    if sum(len(choice) > 1 for choice in choices) > _MAX_SIGNS:
        raise Unreadable("too many signs left open")
    correlated = [Group(kind, tuple(choice[min(sign, len(choice) - 1)] for choice in choices)) for sign in (0, 1)]
    independent = [Group(kind, combination) for combination in product(*choices)]
    return OneOf((Group("list", tuple(correlated)), Group("list", tuple(independent))))


def expanded(parts: Iterable[Tokens], kinds: Kinds) -> list[Answer]:
    r"""The items, with both values of those that have a `\pm`."""
    return [item for part in parts_of(list(parts)) for item in both(part, kinds)]


def without_dots(items: list[Answer]) -> list[Answer]:
    """`1, 2, ..., 10` written out, where the whole numbers around the dots make an arithmetic progression."""
    if Dots() not in items[2:-1]:
        return items
    at = items.index(Dots())
    while at > 2 and _progress(items[at - 3 : at]):  # `1, 2, 3, ..., n` is `1, 2, ..., n`
        del items[at - 1]
        at -= 1
    numbers = [_whole(items[i]) for i in (at - 2, at - 1, at + 1)]
    first, second, last = numbers
    if first is None or second is None or last is None or not (step := second - first):
        return items
    count = (last - second) / step
    if count.denominator != 1 or not 1 <= count <= MAX_ITEMS:
        return items
    return [*items[:at], *(Quantity(Number(second + k * step)) for k in range(1, int(count))), *items[at + 1 :]]


def _progress(items: list[Answer]) -> bool:
    a, b, c = map(_whole, items)
    return a is not None and b is not None and c is not None and c - b == b - a


def _whole(item: Answer) -> Fraction | None:
    tree = item.tree if isinstance(item, Quantity) else None
    if isinstance(tree, Call) and tree.op == "neg" and isinstance(tree.args[0], Number):
        return -tree.args[0].value
    return tree.value if isinstance(tree, Number) else None


def both(tokens: Tokens, kinds: Kinds) -> list[Answer]:
    r"""Both values of an expression with `\pm`, or the one of an expression without."""
    if not any(sign in tokens for sign in _SIGNS):
        return [kinds.read(tokens)]
    pairs = (("+", "-"), ("-", "+"))
    return [
        kinds.read(tuple(dict(zip(_SIGNS, pair, strict=True)).get(token, token) for token in tokens)) for pair in pairs
    ]


def both_signs(tokens: Tokens, kinds: Kinds) -> Answer | None:
    r"""`3\pm\sqrt5`. Several `\pm` are independent of one another; `\mp` goes with `\pm`."""
    count = sum(token in _SIGNS for token in tokens)
    if not count:
        return None
    if count == 1 or "\\mp" in tokens or count > _MAX_SIGNS:
        return Group("list", tuple(both(tokens, kinds)))
    apart = []
    for signs in product("+-", repeat=count):
        left = iter(signs)
        apart.append(kinds.read(tuple(next(left) if token == "\\pm" else token for token in tokens)))
    return Group("list", tuple(apart))


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _same_group(gold, answer, kinds) or None  # an interval may still be the same region
    return None


def single(answer: Answer) -> Answer:
    r"""The one item of a set or list of one, for a whole answer: 7 is `\{7\}`, but 7 is no part of where `\{7\}` is."""
    if isinstance(answer, Group) and len(answer.items) == 1 and answer.kind in ("list", "set"):
        return answer.items[0] if not isinstance(answer.items[0], Group) else answer
    return answer


def _same_group(gold: Group, answer: Group, kinds: Kinds) -> bool:
    pair = {gold.kind, answer.kind}
    if gold.joined != answer.joined and "or" in (gold.joined, answer.joined) and not _solutions(gold, answer):
        return False
    if "()" in pair and any(is_labelled(item) for item in (*gold.items, *answer.items)):
        return False  # `x = 1 or x = 2` is no point
    if pair <= {"list", "set"}:
        return same_in_any_order(gold.items, answer.items, kinds)
    if pair <= {"list", "set", "[]"} and (len(gold.items) > 2 or _lists_of_groups(gold, answer)):
        return same_in_any_order(gold.items, answer.items, kinds)
    if pair in ({"()"}, {"()", "list"}, {"[]"}) or (pair == {"()", "[]"} and len(gold.items) > 2):
        return same_in_order(gold.items, answer.items, kinds)
    return len(pair) == 1 and same_in_order(gold.items, answer.items, kinds)


def _solutions(gold: Group, answer: Group) -> bool:
    """Whether the items are values, of which `1 or 2` and `1 and 2` say the same."""
    return not any(isinstance(item, Words) or letter(item) for item in (*gold.items, *answer.items))


def is_labelled(item: Answer) -> bool:
    return hasattr(item, "name") and hasattr(item, "value")


def _lists_of_groups(gold: Group, answer: Group) -> bool:
    """`[(1, 2), (3, 4)]` is no interval."""
    return all(isinstance(item, Group) for item in (*gold.items, *answer.items))


def same_in_order(gold: Sequence[Answer], answer: Sequence[Answer], kinds: Kinds) -> bool:
    return len(gold) == len(answer) and all(kinds.same(a, b) for a, b in zip(gold, answer, strict=True))


def same_in_any_order(gold: Sequence[Answer], answer: Sequence[Answer], kinds: Kinds) -> bool:
    """Multiset equality by pairing off: sameness is transitive but for marks and units, which lists hardly mix."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for item in gold:
        match = next((i for i, other in enumerate(left) if kinds.same(item, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def letter(answer: Answer) -> str | None:
    """The letter that an answer consists of."""
    return answer.tree.name if isinstance(answer, Quantity) and isinstance(answer.tree, Symbol) else None
