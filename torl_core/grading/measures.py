"""Units of measure: which tokens of an answer spell one, and what it is in base units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise

# Each line is one unit: its symbol and its other names | the SI prefixes that it takes | what it is, as a number and a
# product of units from the lines above. Words that are no such units name a new base dimension. Plurals in s follow by
# rule. An answer has lost the case of `mW` and `MW`: it means the prefix that stands first.
_TABLE = """
    m, meter, metre                               | k c m d μ n | length
    s, sec, second                                | m μ n       | time
    g, gm, gram, gramme                           | k m μ       | 1/1000 mass
    A, amp, ampere                                | m μ         | current
    K, kelvin                                     |             | temperature
    mol, mole                                     | m           | amount
    cd, candela                                   |             | luminosity
    rad, radian                                   |             | radian
    rev, revolution                               |             | revolution
    unit                                          |             | unit
    °C, degree celsius, degrees celsius, degree c, degrees c, deg c, °celsius, celsius, centigrade | | degree celsius
    °F, degree fahrenheit, degrees fahrenheit, degree f, degrees f, deg f, °fahrenheit, fahrenheit | | degree fahrenheit
    min, minute                                   |             | 60 s
    h, hr, hour                                   |             | 60 min
    d, day                                        |             | 24 h
    wk, week                                      |             | 7 d
    fortnight                                     |             | 14 d
    mo, month                                     |             | month
    yr, year                                      |             | 12 mo
    decade                                        |             | 10 yr
    century, centuries                            |             | 100 yr
    in, inch, inches                              |             | 0.0254 m
    ft, foot, feet                                |             | 12 in
    yd, yard                                      |             | 3 ft
    mi, mile                                      |             | 5280 ft
    furlong                                       |             | 660 ft
    fathom                                        |             | 6 ft
    nautical mile                                 |             | 1852 m
    ly, light year                                |             | 9460730472580800 m
    Å, angstrom                                   |             | 1/10000000000 m
    acre                                          |             | 43560 ft^2
    ha, hectare                                   |             | 10000 m^2
    L, l, liter, litre                            | m c d k μ   | 1/1000 m^3
    cc                                            |             | 1/1000000 m^3
    gal, gallon                                   |             | 231 in^3
    qt, quart                                     |             | 1/4 gal
    pt, pint                                      |             | 1/8 gal
    cup                                           |             | 1/16 gal
    fl oz, fluid ounce                            |             | 1/128 gal
    tbsp, tablespoon                              |             | 1/256 gal
    tsp, teaspoon                                 |             | 1/768 gal
    lb, pound                                     |             | 0.45359237 kg
    oz, ounce                                     |             | 1/16 lb
    ton, short ton                                |             | 2000 lb
    t, tonne, metric ton                          |             | 1000 kg
    Hz, hertz                                     | k M G       | s^-1
    N, newton                                     | k           | kg m s^-2
    lbf                                           |             | 4.4482216152605 N
    Pa, pascal                                    | k M G       | N m^-2
    bar                                           | m           | 100000 Pa
    atm, atmosphere                               |             | 101325 Pa
    psi                                           |             | lbf in^-2
    J, joule                                      | k M G m     | N m
    W, watt                                       | k M G m     | J s^-1
    Wh                                            | k M G       | W h
    hp, horsepower                                |             | 550 ft lbf s^-1
    cal, calorie                                  | k           | 4.184 J
    eV, electronvolt, electron volt               | k M G       | 1.602176634e-19 J
    C, coulomb                                    | m μ n       | A s
    V, volt                                       | m k         | J C^-1
    Ω, ohm                                        | k M m       | V A^-1
    F, farad                                      | μ n         | C V^-1
    T, tesla                                      | m           | kg A^-1 s^-2
    mph                                           |             | mi h^-1
    kmh, kph, kmph                                |             | km h^-1
    mps                                           |             | m s^-1
    fps                                           |             | ft s^-1
    knot, kt                                      |             | 1852 m h^-1
    rpm                                           |             | rev min^-1
    mpg                                           |             | mi gal^-1
    bit                                           |             | bit
    byte                                          |             | 8 bit
    kB, kilobyte                                  |             | kilobyte
    MB, megabyte                                  |             | megabyte
    GB, gigabyte                                  |             | gigabyte
    $, dollar, usd, us dollar                     |             | dollar
    ¢, cent                                       |             | 1/100 dollar
    €, euro, eur                                  |             | euro
    £, pound sterling, pounds sterling, gbp       |             | pound sterling
    pence                                         |             | 1/100 £
    ¥, yen, jpy                                   |             | yen
    ₹, rupee, rs, inr                             |             | rupee
    yuan, rmb, cny                                |             | yuan
"""
_PREFIXES = {
    "G": ("giga", Fraction(10**9)),
    "M": ("mega", Fraction(10**6)),
    "k": ("kilo", Fraction(10**3)),
    "d": ("deci", Fraction(1, 10)),
    "c": ("centi", Fraction(1, 10**2)),
    "m": ("milli", Fraction(1, 10**3)),
    "μ": ("micro", Fraction(1, 10**6)),
    "n": ("nano", Fraction(1, 10**9)),
}
# Math letters side by side are a product, except where they spell one of these. `in` and `hr` are not among them:
# `2\pi hr` is the side of a cylinder.
_IN_MATH_LETTERS = frozenset(["mm", "cm", "km", "kg", "ml", "mL", "ft", "lb", "oz", "min", "sec", "mph"])
_HALF_IN_MATH_LETTERS = frozenset(["μm", "°C", "°F", "kΩ", "MΩ"])
_UNDER_A_SLASH = frozenset(["h", "s"])
_SIGNS = {
    r"\mu": "μ", "μ": "μ", r"\degree": "°", "°": "°", r"\Omega": "~Ω", "Ω": "~Ω", r"\$": "~$", "$": "~$", "¢": "~¢",
    r"\pounds": "~£", "£": "~£", r"\euro": "~€", "€": "~€", r"\yen": "~¥", "¥": "~¥", "₹": "~₹",
}  # fmt: skip
_POWER_IN_FRONT = {"~square": 2, "~sq": 2, "~cubic": 3, "~cu": 3}
_POWER_BEHIND = {"~squared": 2, "~cubed": 3}
_TIMES = frozenset([r"\cdot", r"\times", "*", "-"])
_PER = frozenset(["/", "~per", "~a", "~an"])
_CLOSING = {"(": ")", "{": "}"}
_DIGITS = frozenset("123456789")
_MOST_TOKENS = 40
_HIGHEST_POWER = 9


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measure: `factor` times the base units of its dimensions.

    A thing without conversion, such as a currency, is a dimension of its own. `name` spells the unit by symbols.
    """

    powers: tuple[tuple[str, int], ...]
    factor: Fraction
    name: str


def compatible(a: Unit, b: Unit) -> bool:
    """Whether an amount of `a` can be expressed in `b`."""
    return a.powers == b.powers


def unit(tokens: Sequence[str]) -> Unit | None:
    r"""The unit that all of `tokens` spell together; None where one of them is no part of a unit.

    A token is `~` and a word of upright text, a math letter, a numeral, a sign or a LaTeX command.
    """
    if not 0 < len(tokens) <= _MOST_TOKENS or ("~per", "~cent") in pairwise(tokens):
        return None
    try:
        powers = _Parser(_spelled(tokens), _UNITS).whole()
    except _NotAUnit:
        return None
    return _unit(powers, _UNITS)


class _NotAUnit(Exception):
    """Some token is no part of a unit."""


Powers = Counter[str]
"""The symbols of a product, each with its power."""


def _spelled(tokens: Sequence[str]) -> list[str]:
    r"""The tokens with each name of a unit as one word: `\mu ~m` is `~μm`, `~light ~years` is `~light years`."""
    return _paired(_joined([part for token in tokens for part in _parts(token)]))


def _parts(token: str) -> list[str]:
    """The words of one token: `~kilowatt-hours` are two with a hyphen between."""
    if token.startswith("~"):
        return [part if part == "-" else "~" + part for part in re.split("(-)", token[1:])]
    return [_SIGNS.get(token, token)]


def _joined(tokens: Sequence[str]) -> list[str]:
    """The tokens with math letters side by side as one word, where they spell a unit."""
    joined: list[str] = []
    for is_letter, run in groupby(tokens, str.isalpha):
        letters = list(run)
        word = "".join(letters)
        joined += ["~" + word] if is_letter and word in _IN_MATH_LETTERS else letters
    return joined


def _paired(tokens: Sequence[str]) -> list[str]:
    """The tokens with two of them as one, where they spell a unit together, and without abbreviations' full stops."""
    paired: list[str] = []
    for token in tokens:
        if paired and token == "." and paired[-1].startswith("~"):
            continue
        if paired and (both := _pair(paired[-1], token)) in _UNITS:
            paired[-1] = "~" + both
        else:
            paired.append(token)
    return paired


def _pair(first: str, second: str) -> str:
    """How the name of a unit is spelled whose halves are two tokens; empty where they can be none."""
    glued = first.removeprefix("~") + second.removeprefix("~")
    if glued in _HALF_IN_MATH_LETTERS:
        return glued
    if not second.startswith("~"):
        return ""
    if first in {"μ", "°"} or second == "~Ω":
        return glued
    return f"{first[1:]} {second[1:]}".casefold() if first.startswith("~") else ""


class _Parser:
    """Reads a quotient of products of powers, by recursive descent."""

    def __init__(self, tokens: Sequence[str], units: Mapping[str, Unit]) -> None:
        self._tokens = tokens
        self._units = units
        self._position = 0

    def whole(self) -> Powers:
        powers = self._quotient(divides=False)
        _require(self._position == len(self._tokens))
        return powers

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _take(self, wanted: Container[str]) -> str:
        """The next token where it is one of `wanted`, which is behind us then; empty otherwise."""
        token = self._peek()
        if not token or token not in wanted:
            return ""
        self._position += 1
        return token

    def _quotient(self, divides: bool) -> Powers:
        """A product and what divides it, one factor each. So `J/kg K` is none: whether K divides is not clear."""
        powers = Powers() if self._peek() in _PER else self._product(divides)
        while self._take(_PER):
            powers = _product(powers, self._factor(divides=True), -1)
        return powers

    def _product(self, divides: bool) -> Powers:
        powers = self._factor(divides)
        while self._peek() and self._peek() not in _PER and self._peek() not in _CLOSING.values():
            self._take(_TIMES)
            powers = _product(powers, self._factor(divides), 1)
        return powers

    def _factor(self, divides: bool) -> Powers:
        power = _POWER_IN_FRONT.get(self._take(_POWER_IN_FRONT), 1)
        base = self._base(divides)
        if self._take("^"):
            power *= self._exponent()
        else:
            power *= _POWER_BEHIND.get(self._take(_POWER_BEHIND), 1)
        return _product(Powers(), base, power)

    def _base(self, divides: bool) -> Powers:
        if self._take([r"\frac"]):
            return _product(self._base(divides), self._base(divides=True), -1)
        if opening := self._take(_CLOSING):
            powers = self._quotient(divides)
            _require(self._take(_CLOSING[opening]))
            return powers
        token = self._peek()
        self._position += 1
        _require(token.startswith("~") or (divides and token in _UNDER_A_SLASH))
        word = token.removeprefix("~")
        found = self._units.get(word) or (self._units.get(word.casefold()) if len(word) > 1 else None)
        if found is None:
            raise _NotAUnit
        return Powers({found.name: 1})

    def _exponent(self) -> int:
        braced = self._take("{")
        sign = -1 if self._take("-") else 1
        digit = self._take(_DIGITS)
        _require(digit)
        _require(not braced or self._take("}"))
        return sign * int(digit)


def _require(condition: object) -> None:
    if not condition:
        raise _NotAUnit


def _product(powers: Powers, factor: Powers, power: int) -> Powers:
    """`powers` times `factor` to the power of `power`."""
    product = Powers(powers)
    for symbol, exponent in factor.items():
        product[symbol] += exponent * power
        _require(abs(product[symbol]) <= _HIGHEST_POWER)
    return product


def _unit(powers: Powers, units: Mapping[str, Unit]) -> Unit:
    """The unit that is this product of the named units."""
    dimensions = Powers()
    factor = Fraction(1)
    for symbol, power in powers.items():
        for base, exponent in units[symbol].powers:
            dimensions[base] += exponent * power
        factor *= units[symbol].factor ** power
    name = " ".join(symbol if power == 1 else f"{symbol}^{power}" for symbol, power in sorted(powers.items()) if power)
    return Unit(tuple(sorted((base, power) for base, power in dimensions.items() if power)), factor, name)


def _read(table: str) -> dict[str, Unit]:
    """Every spelling of every unit of `table`."""
    units: dict[str, Unit] = {}
    for line in table.strip().split("\n"):
        names, prefixes, meaning = (column.strip() for column in line.split("|"))
        symbol, *words = names.split(", ")
        powers, factor = _meaning(meaning, units)
        spelled: dict[str, Unit] = {}
        for name in (symbol, *words):
            _spell(spelled, name, Unit(powers, factor, symbol))
        for prefix in prefixes.split():
            prefix_word, times = _PREFIXES[prefix]
            for name in (prefix + symbol, *(prefix_word + word for word in words)):
                _spell(spelled, name, Unit(powers, factor * times, prefix + symbol))
        if twice := units.keys() & spelled.keys():
            raise ValueError(f"two lines of the table of units spell {sorted(twice)}")
        units |= spelled
    return units


def _meaning(text: str, units: Mapping[str, Unit]) -> tuple[tuple[tuple[str, int], ...], Fraction]:
    """The dimensions and the factor of `1/8 gal`, `kg m s^-2` or the new dimension `length`."""
    first, *rest = text.split()
    number, words = (Fraction(first), rest) if first[0].isdigit() else (Fraction(1), [first, *rest])
    parts = {symbol: int(power or 1) for symbol, _, power in (word.partition("^") for word in words)}
    if not parts.keys() <= units.keys():
        return ((" ".join(words), 1),), number
    product = _unit(Powers(parts), units)
    return product.powers, product.factor * number


def _spell(spelled: dict[str, Unit], name: str, one: Unit) -> None:
    """Add `name`, its plural, and both without capitals; a single letter has neither."""
    spelled.setdefault(name, one)
    if len(name) > 1:
        for spelling in (name.casefold(), name + "s", name.casefold() + "s"):
            spelled.setdefault(spelling, one)


_UNITS = _read(_TABLE)
