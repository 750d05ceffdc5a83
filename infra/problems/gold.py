r"""The gold answer in what a column holds: the whole value, or a part of a solution by a named rule.

A solution that is taken whole is never matched by an answer, so that a row is rejected rather than read by a wrong
rule, and so is a gold that the grader cannot match against itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from infra.problems.rows import RowError
from torl_core.grading import last_boxed, unmatchable

_MARK = re.compile(r"####[ \t]*(.*)")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")


def gold_of(text: str, rule: str) -> str:
    """Raises RowError where `text` does not follow the rule, or its gold cannot be graded."""
    gold = RULES[rule](text)
    if why := unmatched(gold):
        raise RowError(f"its gold answer {_short(gold)} matches no answer, not even itself: {why}")
    return gold


def rule_of(texts: Iterable[str]) -> str:
    """The rule that more than half of the texts follow; `plain` where there is none."""
    texts = list(texts)
    for rule, mark in (("gsm8k", _MARK), ("boxed", _BOX)):
        if 2 * sum(bool(mark.search(text)) for text in texts) > len(texts):
            return rule
    return "plain"


def _plain(text: str) -> str:
    for rule, mark in (("gsm8k", _MARK), ("boxed", _BOX)):
        if match := mark.search(text):
            raise RowError(f"its answer is a whole solution (it has {match[0][:20]!r}): see answer_format {rule}")
    return text


def _boxed(text: str) -> str:
    box = last_boxed(text)
    if box is None or not box.strip():
        raise RowError("its solution has no closed \\boxed{...} with an answer in it")
    return box


def _gsm8k(text: str) -> str:
    marks = _MARK.findall(text)
    if not marks or not marks[-1].strip():
        raise RowError("its solution has no line `#### ANSWER`")
    return str(marks[-1]).strip()


RULES: Mapping[str, Callable[[str], str]] = {"plain": _plain, "boxed": _boxed, "gsm8k": _gsm8k}


@lru_cache(1 << 17)
def unmatched(gold: str) -> str | None:
    """Why the grader would refuse this very text as an answer; None where it would not. Quick, whatever the text is."""
    if last_boxed(f"\\boxed{{{gold}}}") != gold:
        return "its braces do not match"
    return unmatchable(gold)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
