"""Units of measure as answers write them, so that `5 cm` is `5` and is not `5 m`."""

from __future__ import annotations

import re

_NAMES = {
    "mm": "millimeter millimeters millimetre millimetres", "cm": "centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "mg": "milligram milligrams", "g": "gram grams", "kg": "kilogram kilograms",
    "lb": "lbs pound pounds", "oz": "ounce ounces",
    "ml": "milliliter milliliters", "l": "liter liters litre litres", "gal": "gallon gallons",
    "s": "sec secs second seconds", "min": "mins minute minutes", "h": "hr hrs hour hours",
    "day": "days", "week": "weeks",
    "month": "months", "year": "years yr yrs", "dollar": "dollars usd", "cent": "cents",
    "euro": "euros", "acre": "acres", "rad": "radian radians",
}  # fmt: skip
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in (name, *aliases.split())}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def unit(words: str) -> str | None:
    """Canonical name of the unit that `words` (lower case, with `^2` or `/`) spell; None where they name none.

    What is counted (`7 days` aside, as in `14 right triangles`) is no unit of measure: it is decoration.
    """
    parts = [_simple(part) for part in re.split(r"\bper\b|/", words.replace("mph", "mi/h"))]
    known = [part for part in parts if part]
    return "/".join(known) if known and len(known) == len(parts) else None


def _simple(words: str) -> str | None:
    power, name = 1, ""
    for word in re.findall(r"[a-z]+|\d+", words):
        if word in _POWERS:
            power = _POWERS[word]
        elif word.isdigit():
            power = int(word[:2])
        elif word in _CANONICAL:
            name = _CANONICAL[word]
        else:
            return None
    return f"{name}^{power}" if name else None
