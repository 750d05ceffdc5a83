"""Which words spell a number."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.grading.number_words import multiplier, number_words


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("zero", "0"),
        ("two", "2"),
        ("nineteen", "19"),
        ("twenty-one", "21"),
        ("twenty one", "21"),
        ("ninety", "90"),
        ("one hundred", "100"),
        ("a hundred", "100"),
        ("one hundred and twenty-one", "121"),
        ("one hundred twenty one", "121"),
        ("twelve hundred", "1200"),
        ("two thousand and five", "2005"),
        ("two thousand three hundred and five", "2305"),
        ("nine hundred ninety-nine thousand nine hundred ninety-nine", "999999"),
        ("two million", "2000000"),
        ("three hundred million and one", "300000001"),
        ("one trillion", "1000000000000"),
        ("a dozen", "12"),
        ("two dozen", "24"),
        ("two hundred dozen", "2400"),
        ("half a dozen", "6"),
        ("half a million", "500000"),
        ("two and a half million", "2500000"),
        ("three point five million", "3500000"),
        ("minus five", "-5"),
        ("negative two thirds", "-2/3"),
        ("half", "1/2"),
        ("one half", "1/2"),
        ("one-half", "1/2"),
        ("a half", "1/2"),
        ("a third", "1/3"),
        ("one quarter", "1/4"),
        ("three quarters", "3/4"),
        ("three-quarters", "3/4"),
        ("two thirds", "2/3"),
        ("seven halves", "7/2"),
        ("eleven twentieths", "11/20"),
        ("one twenty-fifth", "1/25"),
        ("three twenty-fifths", "3/25"),
        ("twenty-one hundredths", "21/100"),
        ("fifty hundredths", "1/2"),
        ("one ten-thousandth", "1/10000"),
        ("three and a half", "7/2"),
        ("three and one-half", "7/2"),
        ("two and three quarters", "11/4"),
        ("one hundred and a half", "201/2"),
        ("three point one four", "3.14"),
        ("zero point zero five", "0.05"),
    ],
)
def test_number_words(words: str, value: str) -> None:
    assert number_words(words.split()) == Fraction(value)


@pytest.mark.parametrize(
    "words",
    [
        "", "a", "an", "and", "minus", "minus minus five", "point", "point five", "three point", "three point twelve",
        "third", "first", "second", "twenty-first", "twenty-fifth", "twenty-fifths", "hundredth", "one hundred fifth",
        "fourth quarter", "one second", "two seconds", "two third", "one thirds", "one apple", "two of them",
        "not two", "one two", "twenty three four", "twenty eleven", "twenty twenty-three", "nineteen ninety",
        "one and two", "one hundred and", "and one hundred", "zero hundred", "hundred", "thousand", "dozen",
        "one hundred hundred", "one thousand two thousand", "one thousand million", "two hundred thousandths",
        "twenty fifths", "three and four halves", "one-", "-one", "five squared", "ten percent", "one in three",
        "two or three", "two thirds and",
    ],
)  # fmt: skip
def test_what_spells_no_number(words: str) -> None:
    assert number_words(words.split()) is None


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("hundred", "100"),
        ("thousand", "1000"),
        ("million", "1000000"),
        ("billion", "1000000000"),
        ("trillion", "1000000000000"),
        ("hundred thousand", "100000"),
        ("dozen", "12"),
        ("halves", "1/2"),
        ("thirds", "1/3"),
        ("quarters", "1/4"),
        ("tenths", "1/10"),
        ("hundredths", "1/100"),
        ("thousandths", "1/1000"),
    ],
)
def test_multipliers(words: str, value: str) -> None:
    assert multiplier(words.split()) == Fraction(value)


@pytest.mark.parametrize(
    "words",
    ["", "half million", "one", "third", "seconds", "hundred and five", "squared", "percent", "thousand hundred", "cm"],
)
def test_what_multiplies_no_numeral(words: str) -> None:
    assert multiplier(words.split()) is None


ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = [(10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")]


def spell(number: int, joint: str) -> str:
    for scale, name in SCALES:
        if number >= scale:
            rest = number % scale
            glue = " and " if 0 < rest < 100 else " "
            return f"{spell(number // scale, joint)} {name}" + (glue + spell(rest, joint) if rest else "")
    if number < 20:
        return ONES[number]
    return TENS[number // 10 - 2] + (joint + ONES[number % 10] if number % 10 else "")


@given(st.integers(0, 10**15 - 1), st.sampled_from(["-", " "]))
def test_every_spelled_integer_is_read(number: int, joint: str) -> None:
    words = spell(number, joint).split()
    assert number_words(words) == number
    assert number_words(["minus", *words]) == -number


@given(st.lists(st.sampled_from([*ONES, *TENS, *(name for _, name in SCALES), "a", "and", "half", "thirds", "point"])))
def test_any_words_are_judged(words: list[str]) -> None:
    value = number_words(words)
    assert value is None or number_words(["minus", *words]) == -value
