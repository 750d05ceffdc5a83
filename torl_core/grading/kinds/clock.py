"""Times of day and dates: `7:04`, `2:15 PM`, `4:51:06 p.m.`, `July 4, 2020`. A time of day is no ratio."""

from __future__ import annotations

from dataclasses import dataclass

from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.tokens import WORD, Tokens


@dataclass(frozen=True, slots=True)
class Clock(Answer):
    """Hours, minutes and perhaps seconds; `half` is `am`, `pm` or empty."""

    parts: tuple[int, ...]
    half: str = ""


@dataclass(frozen=True, slots=True)
class Date(Answer):
    month: str
    day: int
    year: int | None = None


_HALVES = {"~am": "am", "~pm": "pm"}
_PARTS_OF_DAY: dict[Tokens, str] = {
    ("~in", "~the", "~morning"): "~am", ("~in", "~the", "~afternoon"): "~pm", ("~in", "~the", "~evening"): "~pm",
}  # fmt: skip
_NAMED = {"~noon": Clock((12, 0), "pm"), "~midnight": Clock((0, 0), "am")}
_MONTHS = tuple(
    WORD + month
    for month in ["january", "february", "march", "april", "may", "june",
                  "july", "august", "september", "october", "november", "december"]
)  # fmt: skip
_SHORT = {month[:4]: month for month in _MONTHS} | {"~sept": "~september"}


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if len(tokens) == 1 and (named := _NAMED.get(tokens[0].casefold())):
        return named
    return _clock(tokens) or _date(tokens)


def _clock(tokens: Tokens) -> Clock | None:
    if len(tokens) == 2 and tokens[0].isdigit() and tokens[1].casefold() == "~o'clock" and int(tokens[0]) <= 12:
        return Clock((int(tokens[0]), 0))
    for words, named in _PARTS_OF_DAY.items():
        if tokens[-len(words) :] == words:
            tokens = (*tokens[: -len(words)], named)
    half = _HALVES.get(tokens[-1].casefold(), "")
    body = tokens[:-1] if half else tokens
    if half and len(body) == 1 and body[0].isdigit() and int(body[0]) <= 12:
        return Clock((int(body[0]), 0), half)
    numbers, colons = body[::2], body[1::2]
    if len(body) not in (3, 5) or set(colons) != {":"} or not all(part.isdigit() for part in numbers):
        return None
    hour, *others = numbers
    if len(hour) > 2 or int(hour) > 24 or any(len(part) != 2 or int(part) > 59 for part in others):
        return None
    return Clock(tuple(int(part) for part in numbers), half)


def _of_day(clock: Clock) -> tuple[int, ...]:
    """The time on a clock of 24 hours, where the half is known or the hour above twelve."""
    hour, *rest = clock.parts
    return (hour % 12 + 12 * (clock.half == "pm") if clock.half else hour, *rest)


def _date(tokens: Tokens) -> Date | None:
    if len(tokens) == 5 and set(tokens[1::2]) == {"-"} and [len(part) for part in tokens[::2]] == [4, 2, 2]:
        return _numbered(tokens[::2])
    words = [token for token in tokens if token.casefold() not in ("~th", ",", ".", "~of", "~the")]
    names = [_SHORT.get(token.casefold(), token.casefold()) for token in words]
    names = [name for name in names if name in _MONTHS]
    numbers = [token for token in words if token.isdigit()]
    if len(names) != 1 or len(names) + len(numbers) != len(words) or not 1 <= len(numbers) <= 2:
        return None
    day, *year = numbers
    if len(day) > 2 or any(len(part) != 4 for part in year):
        return None
    return Date(names[0], int(day), int(year[0]) if year else None)


def _numbered(parts: Tokens) -> Date | None:
    """2021-03-05."""
    if not all(part.isdigit() for part in parts):
        return None
    year, month, day = map(int, parts)
    return Date(_MONTHS[month - 1], day, year) if 1 <= month <= 12 else None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if isinstance(gold, Clock) and isinstance(answer, Clock):
        if gold.half and answer.half:
            return _of_day(gold) == _of_day(answer)
        return gold.parts == answer.parts or (
            max(gold.parts[0], answer.parts[0]) > 12 and _of_day(gold) == _of_day(answer)
        )
    if isinstance(gold, Date) and isinstance(answer, Date):
        years = {gold.year, answer.year}
        return (gold.month, gold.day) == (answer.month, answer.day) and (len(years) == 1 or None in years)
    return None
