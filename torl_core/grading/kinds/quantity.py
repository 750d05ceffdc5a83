r"""A scalar, with what may stand around it: a unit or currency, a percent or degree sign, and the noun that is counted.

Where an answer sheet leaves a choice:

- A unit, a degree sign or a noun may be missing on either side; two different ones are two different answers.
- Units of one dimension convert: 100 cm is 1 m, 1 hour 30 minutes is 90 minutes, 5'7'' is 67 inches.
- `50\%` is `50` (the question asked for percent) and `0.5` (its value); without a sign nothing is multiplied by 100. A
  bare gold below one is taken by value alone, so `0.5\%` is not `0.5`.
- Words that change a number (`million`, `dozen`, `squared`) are computed; words that qualify or deny it (`at least`,
  `not`, `wrong`) make it another kind of answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Symbol, Unreadable, parse, symbols
from torl_core.grading.kinds.base import Answer, Kinds, OneOf
from torl_core.grading.measures import Unit, compatible, unit
from torl_core.grading.number_words import multiplier, number_words
from torl_core.grading.tokens import NUMBER_SETS, Tokens, closing, is_number, is_word, vocabulary
from torl_core.grading.values import evaluate, same_value


@dataclass(frozen=True, slots=True)
class Quantity(Answer):
    """`mark` is % or a degree sign behind the whole, not part of `tree`; `noun` is what is counted, in lower case.

    `italic` says that the unit is written as variables are (`18 m^2`): it is one only beside another unit.
    """

    tree: Expr
    mark: str = ""
    unit: Unit | None = None
    noun: tuple[str, ...] = ()
    italic: bool = False


_CURRENCIES = {
    "\\dollars": "~dollars", "\\euro": "~euros", "\\pounds": "~pounds sterling", "\\yen": "~yen",
    "\\rupee": "~rupees", "\\cents": "~cents", "~usd": "~dollars", "~us": "~dollars", "~eur": "~euros",
    "~gbp": "~pounds sterling", "~rs": "~rupees",
}  # fmt: skip
MEANINGFUL = vocabulary(
    """
    not no non never wrong incorrect false invalid impossible extraneous rejected undefined infinite nonexistent
    at least most more less fewer than greater smaller larger above below over under between within beyond up
    about approximately approx around roughly nearly almost circa remainder rem r modulo mod or and plus minus
    times divided half halves third thirds quarter quarters dozen score hundred thousand million billion
    trillion tenths hundredths thousandths squared cubed factorial percent is are was were does do if unless
    otherwise except without but each either neither both mean average base root power inverse reciprocal
    opposite negative positive additional extra excluding including minimum maximum
    too off ago short maybe perhaps possibly probably guess unknown error unsure likely estimated rounded
    """
)
"""Words that a counted noun cannot contain, because they change what a number says."""
_HARMLESS = vocabulary("exactly total altogether only in the a an all different distinct to of")
_ORDINAL = "~th"
_RADIAN = (("radian", 1),)
_KELVIN = (("temperature", 1),)
_PI_OVER_180 = Call("/", (Symbol("\\pi"), Number(Fraction(180))))


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if len(tokens) == 1 and tokens[0] in NUMBER_SETS:
        return Quantity(Symbol(tokens[0]))
    tokens, currency = _currency(tokens)
    scalar, tail = _tail(tokens)
    if not scalar:
        return None
    if tail in (("~k",), ("~K",)) and is_number(scalar[-1]):
        thousands = Quantity(Call("*", (parse(scalar), Number(Fraction(1000)))))
        return thousands if tail == ("~k",) else OneOf((thousands, _quantity(scalar, tail, currency)))
    try:
        quantity = _quantity(scalar, tail, currency)
    except Unreadable:
        if any(is_word(token) for token in tokens):
            return None  # perhaps words, as in `Type 2`
        raise
    return _italic(scalar, quantity)


def _italic(scalar: Tokens, product: Quantity) -> Answer:
    """The product, or where its letters spell a unit, either: `18 m^2`."""
    first = next((i for i, token in enumerate(scalar) if len(token) == 1 and token.isalpha()), 0)
    letters = tuple(f"~{token}" if len(token) == 1 and token.isalpha() else token for token in scalar[first:])
    measure = unit(letters) if first and all(map(is_number, scalar[:first])) else None
    if not measure:
        return product
    return OneOf((product, Quantity(parse(scalar[:first]), "", measure, (), italic=True)))


def _plain(token: str) -> str:
    return token[1:].casefold()


def _currency(tokens: Tokens) -> tuple[Tokens, Unit | None]:
    """The tokens without the sign or code of a currency in front or behind, and the currency."""
    sign = ("-",) if tokens[:1] == ("-",) and len(tokens) > 2 else ()
    body = tokens[len(sign) :]
    for at, rest in ((0, body[1:]), (-1, body[:-1])):
        rest = rest[1:] if at == 0 and is_word(body[0]) and rest[:1] == (".",) else rest  # Rs. 640
        if rest and (name := _CURRENCIES.get(body[at].casefold())):
            return (*sign, *rest), unit((name,)) or Unit(((name[1:], 1),), Fraction(1), name[1:])
    return tokens, None


def _tail(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """What is computed, and the unit and words behind it."""
    first = next((i for i, token in enumerate(tokens) if _starts_tail(tokens, i)), len(tokens))
    if first > 1 and first < len(tokens) and tokens[first - 1] == "/":
        first -= 1  # $3 / pound
    tail = tokens[first:]
    if tail[:1] == ("(",) and closing(tail, 0) == len(tail) - 1:
        tail = tail[1:-1]
    return tokens[:first], tail


def _starts_tail(tokens: Tokens, i: int) -> bool:
    token = tokens[i]
    following = tokens[i + 1] if i + 1 < len(tokens) else ""
    if token == "\\frac":
        return any(is_word(inner) for inner in tokens[i + 1 : i + 3]) and unit(tokens[i:]) is not None
    if token == "(" and i:
        worded = is_word(following) or following == "\\degree"
        return worded and closing(tokens, i) == len(tokens) - 1
    if token in ("\\mu", "\\Omega") and i and tokens[i - 1] != "+":
        return unit(tokens[i:]) is not None and is_number(tokens[i - 1])
    if token == "\\degree":
        return len(tokens) > i + 1 and unit(_lower(tokens[i:])) is not None
    return is_word(token) and not (len(token) > 3 and token[1:].isupper() and unit((token,)) is None)


def _lower(tokens: Tokens) -> Tokens:
    """Words in lower case; single letters keep theirs, since `m` and `M` are two units."""
    return tuple(token.casefold() if is_word(token) and len(token) > 2 else token for token in tokens)


def _quantity(scalar: Tokens, tail: Tokens, currency: Unit | None) -> Quantity:
    """Raises Unreadable where the words behind the number are no unit, multiplier or noun."""
    scale = Fraction(1)
    power = 1
    while tail and tail[0] == _ORDINAL:
        tail = tail[1:]
    while tail and is_word(tail[0]) and (factor := multiplier([_plain(tail[0])])) is not None:
        scale, tail = scale * factor, tail[1:]
    if len(tail) == 1 and _plain(tail[0]) in ("squared", "cubed"):
        power, tail = (2 if _plain(tail[0]) == "squared" else 3), ()
    measure, rest = _measured(tail)
    noun = _noun(rest)
    mark = scalar[-1] if scalar[-1] in ("%", "\\degree") and _marks_whole(scalar) else ""
    tree = parse(scalar[:-1] if mark else scalar)
    if scale != 1:
        tree = Call("*", (tree, Number(scale)))
    if power != 1:
        tree = Call("^", (tree, Number(Fraction(power))))
    return Quantity(tree, mark, _product(currency, measure), noun)


def _product(first: Unit | None, second: Unit | None) -> Unit | None:
    """Dollars and per pound as dollars per pound."""
    if first is None or second is None:
        return first or second
    powers = Counter(dict(first.powers))
    powers.update(dict(second.powers))
    named = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(named, first.factor * second.factor, f"{first.name} {second.name}")


def _measured(tail: Tokens) -> tuple[Unit | None, Tokens]:
    """The longest unit at the start of `tail`, and what is left."""
    tail = _lower(tail)
    for end in range(len(tail), 0, -1):
        if measure := unit(tail[:end]):
            return measure, tail[end:]
    return None, tail


def _noun(tail: Tokens) -> tuple[str, ...]:
    """What is counted. Raises Unreadable where the words say more than that."""
    if tail[:1] == ("(",) and closing(tail, 0) == len(tail) - 1:
        tail = tail[1:-1]
    words = ["per" if token == "/" else _plain(token) for token in tail if is_word(token) or token == "/"]
    if any(not is_word(token) and token not in (".", "-", "/") for token in tail) or len(words) > 6:
        raise Unreadable("more than a noun behind the number")
    if wrong := next((word for word in words if word in MEANINGFUL or number_words([word]) is not None), None):
        raise Unreadable(f"'{wrong}' behind the number")
    return tuple(_singular(word) for word in words if word not in _HARMLESS)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _marks_whole(tokens: Tokens) -> bool:
    return len(tokens) > 1 and not any(
        token == "+" or token[1:4] in ("sin", "cos", "tan", "cot", "sec", "csc", "cis") for token in tokens
    )


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if not (isinstance(gold, Quantity) and isinstance(answer, Quantity)):
        return None
    if (gold.italic or answer.italic) and not (gold.unit and answer.unit):
        return False
    if gold.noun and answer.noun and not _same_noun(gold.noun, answer.noun):
        return False
    if (gold.unit and answer.noun and not answer.unit) or (answer.unit and gold.noun and not gold.unit):
        return False  # `5 cm` is not `5 apples`
    if (gold.mark and answer.noun and not gold.noun) or (answer.mark and gold.noun and not answer.noun):
        return gold.mark == answer.mark and same_value(gold.tree, answer.tree)
    if gold.unit and answer.unit:
        if gold.mark or answer.mark:
            return gold == answer
        return compatible(gold.unit, answer.unit) and same_value(_in_base(gold), _in_base(answer))
    if answer.unit and answer.unit.powers == _KELVIN and gold.unit is None:
        return False  # 5K is rather 5000
    return _same_marked(gold, answer)


def _same_noun(gold: tuple[str, ...], answer: tuple[str, ...]) -> bool:
    """`triangle` and `right triangle` may be the same count; `girl` and `boy` are not."""
    return gold[-1] == answer[-1] and (set(gold) <= set(answer) or set(answer) <= set(gold))


def _in_base(quantity: Quantity) -> Expr:
    assert quantity.unit
    return Call("*", (quantity.tree, Number(quantity.unit.factor)))


def _same_marked(gold: Quantity, answer: Quantity) -> bool:
    if gold.mark == answer.mark:
        return same_value(gold.tree, answer.tree)
    if {gold.mark, answer.mark} == {"%", "\\degree"}:
        return False
    by_value = same_value(marked(gold), marked(answer))
    if any(quantity.unit and quantity.unit.powers == _RADIAN for quantity in (gold, answer)):
        return by_value
    return by_value or (_mark_may_be_missing(gold) and same_value(gold.tree, answer.tree))


def marked(quantity: Quantity) -> Expr:
    """The tree with its mark applied: percent as hundredths, degrees as radians."""
    if quantity.mark == "%":
        return Call("/", (quantity.tree, Number(Fraction(100))))
    return Call("*", (quantity.tree, _PI_OVER_180)) if quantity.mark else quantity.tree


def _mark_may_be_missing(gold: Quantity) -> bool:
    """A bare gold below one is a ratio, not a number of percent."""
    if gold.mark or symbols(gold.tree):
        return True
    value = evaluate(gold.tree, {})
    return not isinstance(value, Fraction) or abs(value) >= 1 or value == 0
