r"""Words and signs that lead to an answer and are none: `Answer: 8`, `There are 14 ways`, `x+2=7 \Rightarrow x=5`."""

from __future__ import annotations

from torl_core.grading.expression import Unreadable
from torl_core.grading.kinds.base import Answer, Kinds, no_say
from torl_core.grading.kinds.equation import Assignment
from torl_core.grading.kinds.quantity import MEANINGFUL
from torl_core.grading.number_words import number_words
from torl_core.grading.tokens import WORD, Tokens, closing, is_word, split, vocabulary

_LEADING = vocabulary(
    """
    the there are is answer answers final result results total value values number equals equal to it its we get
    so thus hence therefore then solution solutions sum product area volume length probability will be exactly
    have has this that given by and our required correct year option choice ans
    """
)
_DENYING = vocabulary(
    """
    not no never wrong false incorrect invalid impossible if unless otherwise whether maybe perhaps unsure
    """
)
_ROUGHLY = vocabulary("about approximately approx roughly", prefix=WORD)
_LINKS: tuple[Tokens, ...] = (
    ("~that", "~is"), ("~or", "~in", "~interval", "~notation"), ("~in", "~interval", "~notation"),
    ("~or", "~equivalently"), ("~equivalently",), ("(", "~or"),
)  # fmt: skip
"""What stands between two notations of one answer."""
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
    for link in _LINKS:
        at = next((i for i in range(1, len(tokens)) if tokens[i : i + len(link)] == link), 0)
        if at and (found := _twice(_bare(tokens[:at]), _bare(tokens[at + len(link) :]), kinds)):
            return found
    parts = split(tokens, (":",))
    if len(parts) == 2 and all(parts):
        if all(is_word(token) for token in parts[0]) and len(parts[0]) <= 6:
            if any(token[1:].casefold() in _DENYING for token in parts[0]):
                return None
            said = {token[1:].casefold() for token in parts[0]} <= _LEADING
            value = kinds.read(parts[1])
            return value if said else Assignment(parts[0], value)
        relation = any(token in ("<", ">", "\\leq", "\\geq", "\\neq", "\\in") for token in parts[0])
        return _twice(parts[0], parts[1], kinds) if relation else None
    if tokens[-1] == ")" and (cut := _remark(tokens)):
        return kinds.read(tokens[:cut])
    if named := _named_point(tokens, kinds):
        return named
    for tail in _TAILS:
        if tokens[-len(tail) :] == tail and len(tokens) > len(tail):
            return kinds.read(tokens[: -len(tail)])
    return _led(tokens, kinds)


def _twice(first: Tokens, second: Tokens, kinds: Kinds) -> Answer | None:
    """An answer sheet's answer in two notations, `x > 5: (5, \\infty)`, if both say the same."""
    try:
        left, right = kinds.read(first), kinds.read(second)
    except Unreadable:
        return None
    return right if kinds.same(left, right) else None


def _bare(tokens: Tokens) -> Tokens:
    """One of two notations, without the comma or bracket that parts it from the other."""
    while tokens and tokens[-1] in (",", "("):
        tokens = tokens[:-1]
    while tokens and tokens[0] == ",":
        tokens = tokens[1:]
    return tokens[:-1] if tokens[-1:] == (")",) and closing(("(", *tokens), 0) == len(tokens) else tokens


def _led(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """What follows a beginning such as `The answer is` or `There are`."""
    start = _sentence(tokens)
    while start < len(tokens) and is_word(tokens[start]) and tokens[start][1:].casefold() in _LEADING:
        start += 1 + (tokens[start : start + 2] in (("~Ans", "."), ("~ans", ".")))
    if not start or start == len(tokens) or tokens[start] in ("=", ":", ",", "(", "_", "<", ">", "\\leq", "\\geq"):
        return None
    if is_word(tokens[start]) and (tokens[start - 1] not in _VERBS or tokens[start][1:].casefold() in MEANINGFUL):
        return None
    return kinds.read(tokens[start:])


def _remark(tokens: Tokens) -> int:
    """Where a closing remark begins, `(x = -3 is extraneous)` or `(about 6.93)`; 0 where there is none."""
    at = next((i for i in range(1, len(tokens)) if tokens[i] == "(" and closing(tokens, i) == len(tokens) - 1), 0)
    inner = [token.casefold() for token in tokens[at + 1 : -1]]
    if not at or not inner:
        return 0
    if inner[0] in _ROUGHLY or not _REJECTIONS.isdisjoint(inner):
        return at
    value = number_words([token[1:] for token in inner]) if all(map(is_word, inner)) else None
    return at if value is not None and tokens[:at] == (str(value),) else 0


def _named_point(tokens: Tokens, kinds: Kinds) -> Assignment | None:
    """`center (2, -3)`: a point with a word for its name."""
    at = next((i for i, token in enumerate(tokens) if not is_word(token)), 0)
    named = 0 < at <= 3 and tokens[at] == "(" and closing(tokens, at) == len(tokens) - 1 and "," in tokens
    if not named or any(token[1:].casefold() in MEANINGFUL for token in tokens[:at]):
        return None
    return Assignment(tokens[:at], kinds.read(tokens[at:]))


def _sentence(tokens: Tokens) -> int:
    """Where the value of a sentence such as `The volume of the cube is 64` begins; 0 where this is none."""
    verb = next((i for i, token in enumerate(tokens) if token in _VERBS), 0)
    plain = all((is_word(token) or len(token) == 1) and token[1:].casefold() not in _DENYING for token in tokens[:verb])
    return verb + 1 if verb and tokens[0][0] == "~" and plain and verb + 1 < len(tokens) else 0


same = no_say
