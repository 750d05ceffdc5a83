r"""The verdict on one answer: guards, spelling, numbers, structure and values, and math-verify for what is left.

Each stage either decides or passes on. Everything up to and including values is bounded in time and memory; math-verify
is not, which is why `equivalent` runs in a process that can be killed (`torl_core.grading.workers`). Policies, where an
answer sheet leaves a choice:

- A unit or degree sign may be missing on either side; two different units are two different answers.
- `50\%` is `50` (the question asked for percent) and `0.5` (its value); without a sign nothing is multiplied by 100. A
  bare gold below one is taken by value alone, so `0.5\%` is not `0.5`.
- A bare list has no order; parentheses have. Braces have none. Counts must agree.
- `x = 5` is `5`. Two equations agree when they differ by a non-zero constant factor.
- A numeral with a base subscript is never one without.
"""

from __future__ import annotations

import re
from fractions import Fraction

from torl_core.grading.compare import same
from torl_core.grading.expression import number
from torl_core.grading.normalise import WORDS, Tokens, refusal, tokens
from torl_core.grading.structure import Answer, readings
from torl_core.grading.values import TooLarge, Undefined
from torl_core.types import Grade

_NUMERAL = re.compile(r"([+-]?)\s*(\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)")
_RUNAWAY = frozenset(["\\sum", "\\prod", "\\int", "\\iint", "\\oint", "\\lim"])
_SIZE = re.compile(r"\d{5,}|!|\^\s*(?:\{[^{}]*|\w\s*)\^")


def quick(gold: str, answer: str | None) -> Grade | None:
    """The verdict where spelling or one exact number decides, in microseconds and without risk; None otherwise."""
    if answer is None:
        return Grade(False, None, "no closed \\boxed{} in the prose")
    answer = answer.strip()
    if not answer:
        return Grade(False, answer, "the last box is empty")
    if gold.strip() == answer:
        return Grade(True, answer, "spelling: identical")
    if why := refusal(answer):
        return Grade(False, answer[:200], f"guard: {why}")
    left, right = _plain_number(gold), _plain_number(answer)
    if left is not None and right is not None:
        return Grade(left == right, answer, f"number: {left} and {right}"[:200])
    return None


def _plain_number(text: str) -> Fraction | None:
    """The value of a lone decimal numeral, thousands separated or not."""
    match = _NUMERAL.fullmatch(text.strip().strip("$").strip())
    if not match or len(match.group(2)) > 400:
        return None
    value = number(match.group(2).replace(" ", ""))
    return -value if match.group(1) == "-" else value


def equivalent(gold: str, answer: str | None) -> Grade:
    """The verdict on `answer`, the content of the box. `correct` is a bool: only a killed worker leaves it open."""
    if verdict := quick(gold, answer):
        return verdict
    assert answer is not None
    try:
        return _by_stages(gold, answer.strip())
    except RecursionError:
        return Grade(False, answer.strip(), "guard: nested too deeply")


def _by_stages(gold: str, answer: str) -> Grade:
    spelled, written = tokens(gold), tokens(answer)
    if spelled == written and written:
        return Grade(True, answer, "spelling: the same tokens")
    if why := _runaway(spelled, written):
        return Grade(False, answer, f"guard: {why}")
    golds = [] if refusal(gold) else readings(spelled)
    answers = readings(written)
    if golds and answers:
        return _by_reading(golds, answers, answer)
    return _last_resort(gold, answer, spelled, written)


def _runaway(gold: Tokens, answer: Tokens) -> str | None:
    found = (_RUNAWAY & frozenset(answer)) - frozenset(gold)
    return f"{', '.join(sorted(found))} in the answer and not in the gold answer" if found else None


def _by_reading(golds: list[Answer], answers: list[Answer], answer: str) -> Grade:
    reason = ""
    for left in golds:
        for right in answers:
            try:
                if same(left, right):
                    return Grade(True, answer, f"value: {_name(left)} equal to {_name(right)}")
                reason = reason or f"value: {_name(left)} different from {_name(right)}"
            except TooLarge as error:
                reason = f"guard: {error} too large to evaluate"
            except Undefined as error:
                reason = f"value: undefined ({error})"
    return Grade(False, answer, reason)


def _name(answer: Answer) -> str:
    return type(answer).__name__.lower()


def _last_resort(gold: str, answer: str, spelled: Tokens, written: Tokens) -> Grade:
    """math-verify, where neither side is prose and both have as many parts."""
    if any(token.startswith(WORDS) for token in (*spelled, *written)):
        return Grade(False, answer, "words: different")
    if "\\ldots" in written:
        return Grade(False, answer, "structure: an answer that trails off")
    if spelled.count(",") != written.count(","):
        return Grade(False, answer, "structure: a different number of parts")
    if refusal(gold) or _SIZE.search(gold) or _SIZE.search(answer):
        return Grade(False, answer, "guard: numbers too large for symbolic comparison")
    return Grade(_math_verify(gold, answer), answer, "math-verify")


def warm() -> None:
    """Import math-verify and build its parser's tables: about a second, once a process."""
    _math_verify("x", "y")


def _math_verify(gold: str, answer: str) -> bool:
    """math-verify's verdict, without its signal-based limits and its plain-text parser, which evaluates text."""
    from math_verify import LatexExtractionConfig, parse, verify

    latex = [LatexExtractionConfig()]
    sides = [
        parse(f"\\boxed{{{text}}}", latex, fallback_mode="no_fallback", parsing_timeout=None) for text in (gold, answer)
    ]
    return bool(all(sides) and verify(*sides, allow_set_relation_comp=True, timeout_seconds=None))
