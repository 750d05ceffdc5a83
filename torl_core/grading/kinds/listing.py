r"""Lists without brackets: `2, 3 \text{ and } 4`, `x = 1 \text{ or } x = 2`, `a = 2, b = 3`, `1, 2, \ldots, 10`.

A list has no order. Named values keep theirs: `a = 2, b = 3` is `b = 3, a = 2` and `2, 3`, and is not `3, 2`. Values of
one name, with an index or without (`x_1 = 3, x_2 = 4`), are the solutions of one unknown and have no order.
"""

from __future__ import annotations

from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.bracket import Dots, Group, expanded, same_in_any_order, same_in_order, without_dots
from torl_core.grading.kinds.equation import Assignment, Record, base, is_name
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import Tokens, closing, split

_JOINED = {"or": ("~or", "\\vee"), "and": ("~and", "\\wedge")}
SEPARATORS = (",", ";", "~and", "~or", "\\wedge", "\\vee")


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if tokens == ("\\ldots",):
        return Dots()
    parts = [part for part in split(tokens, SEPARATORS) if part]
    if len(parts) < 2:
        return _vector(tokens, kinds)
    if questions := _questions(parts, kinds):
        return questions
    joined = next((word for word, signs in _JOINED.items() if len(split(tokens, signs)) > 1), "")
    return listed(expanded(parts, kinds), joined, kinds)


def _questions(parts: list[Tokens], kinds: Kinds) -> Record | None:
    """The answers to the parts of a question, `(a) 3, (b) 5`."""
    labels = [
        part[1] for part in parts if len(part) > 3 and part[0] == "(" and part[2] == ")" and part[3] not in "(=+^"
    ]
    if len(labels) < len(parts) or len(set(labels)) < len(labels) or not all(map(str.isalnum, labels)):
        return None
    return Record(tuple(Assignment(part[:3], kinds.read(part[3:])) for part in parts))


def _vector(tokens: Tokens, kinds: Kinds) -> Record | None:
    """The record that `(a, b) = (1, 2)` names."""
    sides = split(tokens, ("=",))
    if len(sides) != 2 or not all(side[:1] == ("(",) and closing(side, 0) == len(side) - 1 for side in sides):
        return None
    names, values = (split(side[1:-1], (",",)) for side in sides)
    if len(names) != len(values) or len(names) < 2 or not all(map(is_name, names)):
        return None
    return Record(tuple(Assignment(name, kinds.read(value)) for name, value in zip(names, values, strict=True)))


def listed(items: list[Answer], joined: str, kinds: Kinds) -> Answer:
    """A record where every item has a name of its own, else a list. `0.5 or 1/2` is one value in two notations."""
    if joined == "or" and all(isinstance(item, Quantity) and kinds.same(items[0], item) for item in items):
        return items[0]
    named = [part for item in items for part in (item.items if isinstance(item, Record) else (item,))]
    assigned = tuple(item for item in named if isinstance(item, Assignment))
    if len(assigned) == len(named) > 1 and len({item.name for item in assigned}) == len(named):
        return Record(assigned, joined)
    return Group("list", tuple(without_dots(items)), joined)


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Record(), Record():
            return _same_records(gold, answer, kinds)
        case Record(), Group():
            return _same_values(gold, gold.items, answer, answer.items, kinds)
        case Group(), Record():
            return _same_values(answer, gold.items, gold, answer.items, kinds)
        case Dots(), Dots():
            return True
        case (Record() | Dots(), _) | (_, Record() | Dots()):
            return False
    return None


def _same_records(gold: Record, answer: Record, kinds: Kinds) -> bool:
    by_name = {item.name: item.value for item in answer.items}
    if by_name.keys() == {item.name for item in gold.items}:
        either = "or" in (gold.joined, answer.joined) and gold.joined != answer.joined and not gold.solutions
        return not either and all(kinds.same(item.value, by_name[item.name]) for item in gold.items)
    if gold.solutions and answer.solutions and base(gold.items[0].name) == base(answer.items[0].name):
        return same_in_any_order(gold.values, answer.values, kinds)
    return False


def _same_values(
    record: Record, gold: tuple[Answer, ...], group: Answer, answer: tuple[Answer, ...], kinds: Kinds
) -> bool:
    assert isinstance(group, Group)
    if record.solutions and group.kind in ("list", "set"):
        return same_in_any_order(gold, answer, kinds)
    if record.joined == "or":
        return False  # `x = 1 or y = 2` is no point
    return group.kind in ("list", "()", "[]") and same_in_order(gold, answer, kinds)
