"""Numerals in a base: `2516_8`, `A5_{11}`, `3210 (base 5)`. Only one in base 10 is also the number without a base."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Number
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.number_words import number_words
from torl_core.grading.tokens import Tokens, is_word
from torl_core.grading.values import same_value


@dataclass(frozen=True, slots=True)
class Based(Answer):
    digits: str
    base: int


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    sign = "-" if tokens[:1] == ("-",) else ""
    numeral, base = _parts(tokens[len(sign) :])
    digits = "".join(token.removeprefix("~") for token in numeral).strip("()")
    if not base.isdigit() or not digits.isalnum() or not digits.isascii() or not _has_numeral(digits, int(base[:6])):
        return None
    return Based(sign + (digits.upper().lstrip("0") or "0"), int(base[:6]))


def _parts(tokens: Tokens) -> tuple[Tokens, str]:
    """The digits and the base, both as spelled."""
    if "_" in tokens:
        cut = tokens.index("_")
        return tokens[:cut], _base([token for token in tokens[cut + 1 :] if token not in ("{", "}", "(", ")", "~base")])
    words = [token for token in tokens if token not in ("(", ")", "~in")]
    if "~base" in words[1:]:
        cut = words.index("~base")
        return tuple(words[:cut]), _base(words[cut + 1 :])
    return (), ""


def _base(spelled: list[str]) -> str:
    if spelled and all(is_word(token) for token in spelled):
        value = number_words([token[1:].casefold() for token in spelled])
        return str(value) if value is not None else ""
    return "".join(spelled)


def _has_numeral(digits: str, base: int) -> bool:
    """A digit at least, so that `a_1` stays a variable; letters alone where the base has them and is above ten."""
    if any(c.isdigit() for c in digits):
        return True
    return base > 10 and len(digits) > 1 and all(int(c, 36) < base <= 36 for c in digits)


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Based(), Based():
            return gold == answer
        case (Based() as numeral, Quantity() as scalar) | (Quantity() as scalar, Based() as numeral):
            decimal = numeral.base == 10 and numeral.digits.lstrip("-").isdigit()
            return decimal and same_value(Number(Fraction(numeral.digits)), scalar.tree)
    return None
