"""Ratios: `3:5`, `3 to 5`, `1:2:3`. Two are the same when all cross products agree; `7:2` is also the number 7/2."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, parse
from torl_core.grading.kinds.base import Answer, Kinds, parts_of
from torl_core.grading.kinds.clock import Clock
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import Tokens, is_word, split
from torl_core.grading.values import same_value


@dataclass(frozen=True, slots=True)
class Ratio(Answer):
    terms: tuple[Expr, ...]


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    parts = split(tokens, (":", "~to"))
    if "~to" in tokens and any(is_word(token) and token != "~to" for token in tokens):
        return None
    return Ratio(tuple(parse(part) for part in parts_of(parts))) if len(parts) > 1 and all(parts) else None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    gold, answer = _unclocked(gold, answer), _unclocked(answer, gold)
    match gold, answer:
        case Ratio(), Ratio():
            return _same_terms(gold.terms, answer.terms)
        case (Ratio(terms=(a, b)), Quantity(tree=c)) | (Quantity(tree=c), Ratio(terms=(a, b))):
            return same_value(Call("/", (a, b)), c)
    return None


def _unclocked(answer: Answer, other: Answer) -> Answer:
    """What looks like a time of day as a ratio, unless the other looks like one too or it has a half of the day."""
    if isinstance(answer, Clock) and isinstance(other, Ratio) and not answer.half and all(answer.parts):
        return Ratio(tuple(Number(Fraction(part)) for part in answer.parts))
    return answer


def _same_terms(gold: tuple[Expr, ...], answer: tuple[Expr, ...]) -> bool:
    if len(gold) != len(answer):
        return False
    if gold == answer:
        return True
    (a, *rest), (b, *others) = gold, answer
    return all(same_value(Call("*", (a, y)), Call("*", (b, x))) for x, y in zip(rest, others, strict=True))
