r"""The verdict on one answer: guards, spelling, plain numbers, and then the kinds of answers (`kinds`).

Each stage either decides or passes on, and each is bounded in time and memory. What cannot be read matches only what is
spelled the same. What counts as the same is said in each kind's file; for all of them:

- A wrong answer accepted is worse than a right one refused: whatever stands in an answer must be explained.
- Nothing is compared by rounding.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction

from torl_core.grading.characters import visible
from torl_core.grading.expression import Unreadable, number
from torl_core.grading.kinds import Table
from torl_core.grading.kinds.base import Answer
from torl_core.grading.kinds.bracket import single
from torl_core.grading.python_output import from_python
from torl_core.grading.tokens import CLOSING, OPENING, Tokens, is_number, refusal, split, tokens
from torl_core.grading.values import TooLarge, Undefined
from torl_core.types import Grade

_NUMERAL = re.compile(r"([+-]?)\s*(\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)")
_RUNAWAY = frozenset(["\\sum", "\\prod", "\\int", "\\iint", "\\oint", "\\lim"])
_BOLD = re.compile(r"\\(?:mathbf|boldsymbol|bm)\b")


def quick(gold: str, answer: str | None) -> Grade | None:
    """The verdict where spelling or one exact number decides, in microseconds and without risk; None otherwise."""
    if answer is None:
        return Grade(False, None, "no closed \\boxed{} in the prose")
    answer = answer.strip()
    if not answer:
        return Grade(False, answer, "the last box is empty")
    gold, spelled = visible(gold).strip(), gold.strip()
    if answer in (gold, spelled):
        return Grade(True, answer, "spelling: identical")
    if why := refusal(answer):
        return Grade(False, answer[:200], f"guard: {why}")
    left, right = _plain_number(gold), _plain_number(answer)
    if left is not None and right is not None:
        return Grade(left == right, answer, f"number: {left} and {right}"[:200])
    return None


def unmatchable(gold: str) -> str | None:
    """Why no answer can match a gold, not even one that repeats it; None where one can. Quick, whatever the text is."""
    gold = visible(gold)
    return refusal(gold) or (None if tokens(gold) else "nothing in it stands for an answer")


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
        return _by_kind(_one_gold(visible(gold)), answer.strip())
    except RecursionError:
        return Grade(False, answer.strip(), "guard: nested too deeply")


def _one_gold(gold: str) -> str:
    """A gold that a data set wrapped into a list of strings, without the list."""
    if not re.fullmatch(r"""\s*\[\s*["'].*["']\s*\]\s*""", gold, re.DOTALL):
        return gold
    try:
        items = ast.literal_eval(gold.strip())
    except (ValueError, SyntaxError, MemoryError):
        return gold
    return ", ".join(items) if all(isinstance(item, str) for item in items) else gold


def _by_kind(gold: str, answer: str) -> Grade:
    spelled, written = tokens(gold), tokens(answer)
    if spelled == written and written:
        return Grade(True, answer, "spelling: the same tokens")
    if why := _runaway(spelled, written):
        return Grade(False, answer, f"guard: {why}")
    kinds = Table()
    golds = [] if refusal(gold) else list(readings(gold, kinds))
    reason = "gold: not readable, and spelled differently" if not golds else "answer: not readable"
    for right in readings(answer, kinds) if golds else ():
        for left in golds:
            try:
                if kinds.same(single(left), single(right)):
                    return Grade(True, answer, f"value: {_name(left)} equal to {_name(right)}")
                reason = f"value: {_name(left)} different from {_name(right)}"
            except TooLarge as error:
                reason = f"guard: {error} too large to evaluate"
            except Undefined as error:
                reason = f"value: undefined ({error})"
    return Grade(False, answer, reason)


def _runaway(gold: Tokens, answer: Tokens) -> str | None:
    """What would have to be computed: the answer itself, not what it is equated with in front."""
    answer = split(answer, ("=",))[-1]
    found = (_RUNAWAY & frozenset(answer)) - frozenset(gold)
    return f"{', '.join(sorted(found))} in the answer and not in the gold answer" if found else None


def _name(answer: Answer) -> str:
    return type(answer).__name__.lower()


def readings(text: str, kinds: Table) -> Iterator[Answer]:
    """Every reading of an answer: as Python prints it, bold letters as vectors or not, `1,234` as one number or two."""
    printed = from_python(text)
    spellings = [tokens(text)] if printed is None or "log" in text else []  # log(100) is 2, or what Python makes of it
    if printed is not None:
        spellings.insert(0, tokens(printed))
    if _BOLD.search(text):
        spellings.append(tokens(text, bold_is_vector=True))
    seen: list[Tokens] = []
    for spelling in spellings:
        for as_number in (True, False):
            spelled = _thousands(spelling, as_number)
            if spelled in seen:
                continue
            seen.append(spelled)
            try:
                yield kinds.read(spelled)
            except (Unreadable, Undefined, TooLarge):
                continue


def _thousands(spelling: Tokens, as_number: bool) -> Tokens:
    """`1,234` as one numeral or as two; within brackets always two, a tuple being likelier there."""
    out: list[str] = []
    depth = 0
    for token in spelling:
        depth += (token in OPENING and token != "{") - (token in CLOSING and token != "}")
        if is_number(token) and "," in token:
            joined = as_number and depth == 0
            out += [token.replace(",", "")] if joined else " , ".join(token.split(",")).split(" ")
        else:
            out.append(token)
    return tuple(out)
