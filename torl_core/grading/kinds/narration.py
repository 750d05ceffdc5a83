r"""Words and signs that lead to an answer and are none: `Answer: 8`, `There are 14 ways`, `x+2=7 \Rightarrow x=5`."""

from __future__ import annotations

from torl_core.grading.expression import Unreadable
from torl_core.grading.kinds.base import Answer, Kinds, no_say
from torl_core.grading.kinds.equation import Assignment
from torl_core.grading.kinds.quantity import MEANINGFUL
from torl_core.grading.tokens import WORD, Tokens, closing, is_word, split, vocabulary

_LEADING = vocabulary(
    """
    the there are is answer answers final result results total value values number equals equal to it its we get
    so thus hence therefore then solution solutions sum product area volume length probability will be exactly
    have has this that given by and our required correct year option choice
    """
)
_DENYING = vocabulary(
    """
    not no never wrong false incorrect invalid impossible if unless otherwise whether
    """
)
_REJECTIONS = vocabulary("extraneous rejected discarded inadmissible", prefix=WORD)
_TAILS = (("~are", "~correct"), ("~is", "~correct"), ("~is", "~the", "~answer"))
_VERBS = frozenset(["~is", "~are", "~equals", "~be", "~have", "~get", "~has"])


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if (
        tokens[0].casefold() in ("~yes", "~no")
        and tokens[1:2] in ((",",), (".",))
        and all(is_word(t) for t in tokens[2:])
    ):
        return kinds.read(tokens[:1])
    steps = split(tokens, ("\\Rightarrow",))
    if len(steps) > 1:
        return kinds.read(steps[-1]) if steps[-1] else None
    parts = split(tokens, (":",))
    if len(parts) == 2 and all(parts):
        if all(is_word(token) for token in parts[0]) and len(parts[0]) <= 6:
            said = {token[1:].casefold() for token in parts[0]} <= _LEADING
            value = kinds.read(parts[1])
            return value if said else Assignment(parts[0], value)
        return _twice(parts[0], parts[1], kinds)
    if tokens[-1] == ")" and (cut := _rejected(tokens)):
        return kinds.read(tokens[:cut])
    for tail in _TAILS:
        if tokens[-len(tail) :] == tail and len(tokens) > len(tail):
            return kinds.read(tokens[: -len(tail)])
    return _led(tokens, kinds)


def _twice(first: Tokens, second: Tokens, kinds: Kinds) -> Answer | None:
    """An answer sheet's answer in two notations, `x > 5: (5, \\infty)`, if both say the same."""
    if not any(token in ("<", ">", "\\leq", "\\geq", "\\neq", "\\in") for token in first):
        return None
    try:
        left, right = kinds.read(first), kinds.read(second)
    except Unreadable:
        return None
    return right if kinds.same(left, right) else None


def _led(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """What follows a beginning such as `The answer is` or `There are`."""
    start = _sentence(tokens)
    while start < len(tokens) and is_word(tokens[start]) and tokens[start][1:].casefold() in _LEADING:
        start += 1
    if not start or start == len(tokens) or tokens[start] in ("=", ":", ",", "(", "_", "<", ">", "\\leq", "\\geq"):
        return None
    if is_word(tokens[start]) and (tokens[start - 1] not in _VERBS or tokens[start][1:].casefold() in MEANINGFUL):
        return None
    return kinds.read(tokens[start:])


def _rejected(tokens: Tokens) -> int:
    """Where a closing remark such as `(x = -3 is extraneous)` begins; 0 where there is none."""
    at = next((i for i in range(1, len(tokens)) if tokens[i] == "(" and closing(tokens, i) == len(tokens) - 1), 0)
    return at if at and any(token.casefold() in _REJECTIONS for token in tokens[at:]) else 0


def _sentence(tokens: Tokens) -> int:
    """Where the value of a sentence such as `The volume of the cube is 64` begins; 0 where this is none."""
    verb = next((i for i, token in enumerate(tokens) if token in _VERBS), 0)
    plain = all((is_word(token) or len(token) == 1) and token[1:].casefold() not in _DENYING for token in tokens[:verb])
    return verb + 1 if verb and tokens[0][0] == "~" and plain and verb + 1 < len(tokens) else 0


same = no_say
