"""Words: a name, a yes or no, a phrase. Case, articles and punctuation do not matter, every word does."""

from __future__ import annotations

from dataclasses import dataclass

from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.tokens import WORD, Tokens, is_number, is_word, vocabulary


@dataclass(frozen=True, slots=True)
class Words(Answer):
    words: tuple[str, ...]


_ARTICLES = vocabulary("a an the", prefix=WORD)


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """Words with the numbers, single letters and marks between them: `Mrs. Hall`, `Brand B`, `Type 2`."""
    if not any(is_word(token) for token in tokens) or tokens[0] == "-":
        return None
    if not all(is_word(token) or is_number(token) or token in ".-'!\"" or _is_letter(token) for token in tokens):
        return None
    words = [token for token in tokens if token not in ".-'\""]
    said = [token for token in words if token.casefold() not in _ARTICLES] or words
    return Words(tuple(token.removeprefix(WORD).casefold() for token in said))


def _is_letter(token: str) -> bool:
    return len(token) == 1 and token.isalpha()


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if isinstance(gold, Words) and isinstance(answer, Words):
        return _joined(gold) == _joined(answer)
    if isinstance(gold, Words) or isinstance(answer, Words):
        return False
    return None


def _joined(answer: Words) -> str:
    """Without the gaps: `nonreal` is `non-real`."""
    return "".join(c for word in answer.words for c in word if c.isalnum())
