"""One quantity in several units, the largest first: 1 hour 30 minutes, 5 feet 7 inches, 30 degrees 15 arc minutes."""

from __future__ import annotations

import itertools
from fractions import Fraction

from torl_core.grading.expression import Number, number
from torl_core.grading.kinds.base import Answer, Kinds, no_say
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.measures import Unit, compatible, unit
from torl_core.grading.tokens import Tokens, is_number

_FEET = {"'": unit(("~ft",)), "''": unit(("~in",))}
_LINKS = ("~and", ",")


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    sign = -1 if tokens[0] == "-" else 1
    parts = _measured_numbers(tokens[1:] if sign < 0 else tokens)
    if parts is None or len(parts) < 2:
        return None
    names = [name for _, name in parts]
    if names in (["\\degree", "'"], ["\\degree", "'", "''"]):
        total = sum((value / 60**i for i, (value, _) in enumerate(parts)), start=Fraction(0))
        return Quantity(Number(sign * total), "\\degree")
    units = [_FEET.get(name) if isinstance(name, str) else name for name in names]
    known = [found for found in units if found]
    falling = all(compatible(a, b) and a.factor > b.factor for a, b in itertools.pairwise(known))
    if len(known) < len(units) or not falling:
        return None
    total = sum((value * found.factor for (value, _), found in zip(parts, known, strict=True)), start=Fraction(0))
    return Quantity(Number(sign * total / known[-1].factor), "", known[-1])


def _measured_numbers(tokens: Tokens) -> list[tuple[Fraction, str | Unit]] | None:
    """The numbers with their units; a `'` is a foot or a minute of arc."""
    found: list[tuple[Fraction, str | Unit]] = []
    at = 0
    while at < len(tokens):
        at += bool(found) and tokens[at] in _LINKS
        if at >= len(tokens) or not is_number(tokens[at]):
            return None
        value, at = number(tokens[at]), at + 1
        end = next((i for i in range(at, len(tokens)) if is_number(tokens[i]) or tokens[i] in _LINKS), len(tokens))
        spelled = tokens[at:end]
        if spelled == ("\\degree",) or (spelled and set(spelled) == {"'"} and len(spelled) < 3):
            found.append((value, "".join(spelled)))
        elif measure := unit(spelled):
            found.append((value, measure))
        else:
            return None
        at = end
    return found


same = no_say
