"""Numbers that are written in words: `one hundred and twenty-one`, `two thirds`, `three and a half`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SMALL = {name: n for n, name in enumerate(_ONES)} | _TENS
_SCALES = {"trillion": 10**12, "billion": 10**9, "million": 10**6, "thousand": 1000, "hundred": 100}
_MULTIPLES = _SCALES | {"dozen": 12}
_UNITS = {"third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9}
_SIMPLE = {
    "half": 2, "quarter": 4, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14,
    "fifteenth": 15, "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "hundredth": 100,
    "thousandth": 1000, "ten-thousandth": 10**4, "hundred-thousandth": 10**5, "millionth": 10**6, "billionth": 10**9,
    **_UNITS, **{name[:-1] + "ieth": n for name, n in _TENS.items()},
}  # fmt: skip
_COMPOUND = {f"{tens}-{name}": _TENS[tens] + n for tens in _TENS for name, n in _UNITS.items()}
_ONE_PART = _SIMPLE | _COMPOUND
_PARTS = {"halves" if name == "half" else name + "s": n for name, n in _ONE_PART.items()}
_ARTICLES = (["a"], ["an"])
_MOST_WORDS = 30


def number_words(words: Sequence[str]) -> Fraction | None:
    """The number that all of the lower-case `words` spell together; None where they spell none."""
    if not 0 < len(words) <= _MOST_WORDS:
        return None
    split = [part for word in words for part in ([word] if word in _PARTS or word in _ONE_PART else word.split("-"))]
    if split[0] in {"minus", "negative"}:
        value = _value(split[1:])
        return None if value is None else -value
    return _value(split)


def multiplier(words: Sequence[str]) -> Fraction | None:
    """What a numeral is multiplied by where `words` stand behind it: `3 hundred`, `3 hundredths`, `3 dozen`."""
    match list(words):
        case ["hundred", ("thousand" | "million" | "billion" | "trillion") as scale]:
            return Fraction(100 * _SCALES[scale])
        case [word] if word in _PARTS:
            return Fraction(1, _PARTS[word])
        case [word] if word in _MULTIPLES:
            return Fraction(_MULTIPLES[word])
    return None


def _value(words: list[str]) -> Fraction | None:
    for read in (_whole, _part, _mixed, _decimal, _multiple):
        value = read(words)
        if value is not None:
            return value
    return None


def _whole(words: list[str]) -> Fraction | None:
    integer = _integer(words)
    return None if integer is None else Fraction(integer)


def _integer(words: list[str]) -> int | None:
    """The whole number before, and the one behind, the largest scale: `two million | three hundred and five`."""
    for name, scale in _SCALES.items():
        if name in words:
            at = words.index(name)
            return _scaled(words[:at], scale, words[at + 1 :])
    match words:
        case [word]:
            return _SMALL.get(word)
        case [tens, ones] if tens in _TENS and 0 < _SMALL.get(ones, 0) < 10:
            return _TENS[tens] + _SMALL[ones]
    return None


def _scaled(front: list[str], scale: int, behind: list[str]) -> int | None:
    times = 1 if front in _ARTICLES else _integer(front)
    if not times or times >= (100 if scale == 100 else 1000):
        return None
    if not behind:
        return times * scale
    rest = _integer(behind[1:] if behind[0] == "and" else behind)
    if not rest or rest >= scale:
        return None
    return times * scale + rest


def _part(words: list[str]) -> Fraction | None:
    """`two thirds`. None where two readings are possible: `two hundred thousandths`, `twenty fifths`."""
    if not words:
        return None
    *numerator, last = words
    if last in _ONE_PART:
        one = numerator in (*_ARTICLES, ["one"]) or words == ["half"]
        return Fraction(1, _ONE_PART[last]) if one else None
    times = _integer(numerator)
    if last not in _PARTS or times is None or times < 2 or numerator[-1] in _SCALES:
        return None
    if numerator[-1] in _TENS and _PARTS[last] < 10:
        return None
    return Fraction(times, _PARTS[last])


def _mixed(words: list[str]) -> Fraction | None:
    """`three and a half`."""
    for at, word in enumerate(words):
        if word == "and":
            whole, part = _integer(words[:at]), _part(words[at + 1 :])
            if whole and part is not None and part < 1:
                return whole + part
    return None


def _decimal(words: list[str]) -> Fraction | None:
    """`three point one four`."""
    if "point" not in words:
        return None
    at = words.index("point")
    whole = _integer(words[:at])
    digits = [_SMALL.get(word, 10) for word in words[at + 1 :]]
    if whole is None or not digits or max(digits) > 9:
        return None
    return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))


def _multiple(words: list[str]) -> Fraction | None:
    """`a dozen`, `half a million`, `two and a half thousand`."""
    if len(words) < 2 or words[-1] not in _MULTIPLES:
        return None
    *times, name = words
    if times in _ARTICLES:
        return Fraction(_MULTIPLES[name])
    if times == ["half", "a"]:
        return Fraction(_MULTIPLES[name], 2)
    readers = (_whole, _mixed, _decimal) if name == "dozen" else (_mixed, _decimal)
    values = (read(times) for read in readers)
    return next((value * _MULTIPLES[name] for value in values if value), None)
