"""Numbers in words: `twenty-one`, `two thirds`, `two and a half`. Read as the quantity that they name."""

from __future__ import annotations

from torl_core.grading.expression import Number
from torl_core.grading.kinds.base import Answer, Kinds, no_say
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.number_words import number_words
from torl_core.grading.tokens import Tokens, is_word


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    sign = -1 if tokens[0] == "-" else 1
    words = tokens[1:] if sign < 0 else tokens
    if not words or not all(is_word(token) or token == "-" for token in words):
        return None
    value = number_words([token[1:].casefold() for token in words if is_word(token)])
    return Quantity(Number(sign * value)) if value is not None else None


same = no_say
