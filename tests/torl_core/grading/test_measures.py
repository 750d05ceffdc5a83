"""Which tokens spell a unit of measure, and what one of it is in base units."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.grading.measures import compatible, unit

METRE, SECOND, KILOGRAM = ("length", 1), ("time", 1), ("mass", 1)
SPEED = (("length", 1), ("time", -1))


@pytest.mark.parametrize(
    ("tokens", "powers", "factor"),
    [
        ("~cm", (METRE,), "1/100"),
        ("~centimetres", (METRE,), "1/100"),
        ("~feet", (METRE,), "0.3048"),
        ("~inches", (METRE,), "0.0254"),
        ("~in .", (METRE,), "0.0254"),
        ("~miles", (METRE,), "1609.344"),
        (r"\mu ~m", (METRE,), "1/1000000"),
        (r"\mu m", (METRE,), "1/1000000"),
        ("~μm", (METRE,), "1/1000000"),
        ("~nautical ~miles", (METRE,), "1852"),
        ("~acres", (("length", 2),), "4046.8564224"),
        ("~hectares", (("length", 2),), "10000"),
        ("~litre", (("length", 3),), "1/1000"),
        ("~ml", (("length", 3),), "1/1000000"),
        ("~cc", (("length", 3),), "1/1000000"),
        ("~gallons", (("length", 3),), "0.003785411784"),
        ("~fluid ~ounces", (("length", 3),), "0.0000295735295625"),
        ("~g", (KILOGRAM,), "1/1000"),
        ("~pounds", (KILOGRAM,), "0.45359237"),
        ("~ounces", (KILOGRAM,), "0.028349523125"),
        ("~tons", (KILOGRAM,), "907.18474"),
        ("~tonnes", (KILOGRAM,), "1000"),
        ("~mins", (SECOND,), "60"),
        ("~days", (SECOND,), "86400"),
        ("~weeks", (SECOND,), "604800"),
        ("~years", (("month", 1),), "12"),
        ("~J", (("length", 2), KILOGRAM, ("time", -2)), "1"),
        ("~kwh", (("length", 2), KILOGRAM, ("time", -2)), "3600000"),
        ("~kilowatt-hours", (("length", 2), KILOGRAM, ("time", -2)), "3600000"),
        ("~W", (("length", 2), KILOGRAM, ("time", -3)), "1"),
        ("~hz", (("time", -1),), "1"),
        ("~mhz", (("time", -1),), "1000000"),
        ("~kpa", (("length", -1), KILOGRAM, ("time", -2)), "1000"),
        (r"\Omega", (("current", -2), ("length", 2), KILOGRAM, ("time", -3)), "1"),
        ("~ohms", (("current", -2), ("length", 2), KILOGRAM, ("time", -3)), "1"),
        (r"k \Omega", (("current", -2), ("length", 2), KILOGRAM, ("time", -3)), "1000"),
        ("~kω", (("current", -2), ("length", 2), KILOGRAM, ("time", -3)), "1000"),
        (r"\degree ~C", (("degree celsius", 1),), "1"),
        (r"\degree C", (("degree celsius", 1),), "1"),
        ("~degrees ~celsius", (("degree celsius", 1),), "1"),
        (r"\degree ~F", (("degree fahrenheit", 1),), "1"),
        ("~usd", (("dollar", 1),), "1"),
        (r"\$", (("dollar", 1),), "1"),
        ("~cents", (("dollar", 1),), "1/100"),
        ("~pounds ~sterling", (("pound sterling", 1),), "1"),
        ("~radians", (("radian", 1),), "1"),
        ("~units", (("unit", 1),), "1"),
    ],
)
def test_a_unit_has_dimensions_and_a_factor(tokens: str, powers: tuple[tuple[str, int], ...], factor: str) -> None:
    found = unit(tokens.split())
    assert found is not None
    assert (found.powers, found.factor) == (powers, Fraction(factor))


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (
            r"~cm ^ 2; ~cm ^ { 2 }; ~square ~cm; ~sq . ~cm; ~cm ~squared; ~square ~centimeters; ( ~cm ) ^ 2;"
            r"{ ~cm } ^ { 2 }; ~cm ~cm; ~cm \cdot ~cm; c m ^ 2",
            "cm^2",
        ),
        (r"~units ^ 2; ~square ~units; ~sq ~units; ~unit ~squared", "unit^2"),
        (r"~m ^ 3; ~cubic ~meters; ~cu . ~m; ~metres ~cubed", "m^3"),
        (
            r"~m / ~s; ~m ~s ^ { - 1 }; ~m \cdot ~s ^ { - 1 }; \frac { ~m } { ~s }; ~meters ~per ~second;"
            r"~metres / ~sec; ~m / s; ~m ~s ^ - 1; \frac ~m ~s",
            "m s^-1",
        ),
        (
            r"~m / ~s ^ 2; ~m / ~s / ~s; ~meters ~per ~second ~squared; ~m ~s ^ { - 2 }; ~m ~per ~square ~second",
            "m s^-2",
        ),
        (r"~km / ~h; ~kilometers ~an ~hour; k m / h; \frac { k m } { h }; ~km ~per ~hr .", "h^-1 km"),
        (r"~N ~m; ~N \cdot ~m; ~N - ~m; ~newton-meters; ( ~N ~m )", "N m"),
        (r"~J / ( ~kg \cdot ~K ); \frac { ~J } { ~kg ~K }; ~J ~kg ^ { - 1 } ~K ^ { - 1 }", "J K^-1 kg^-1"),
        (r"~per ~second; / ~s; ~s ^ { - 1 }", "s^-1"),
        (r"~rad / ~s; ~radians ~per ~second", "rad s^-1"),
        (r"\degree ~C; \degree C; ~degrees ~C; ~degree ~celsius; ~celsius", "°C"),
        (r"~lb; ~lbs; ~lbs .; ~pounds", "lb"),
    ],
)
def test_spellings_of_one_unit_have_one_name(spellings: str, name: str) -> None:
    found = [unit(tokens.split()) for tokens in spellings.split(";")]
    assert [one and one.name for one in found] == [name] * len(found)
    assert len({(one.powers, one.factor) for one in found if one}) == 1


@pytest.mark.parametrize(
    ("a", "b", "ratio"),
    [
        ("~hour", "~minutes", 60),
        ("~yard", "~feet", 3),
        ("~square ~miles", "~acres", 640),
        ("~mph", "~mi / ~hr", 1),
        ("~m / ~s", "~km / ~h", Fraction(18, 5)),
        ("~knots", "~nautical ~miles ~per ~hour", 1),
        ("~N ~m", "~J", 1),
        ("~rpm", "~revolutions / ~min", 1),
        ("~liters", "~cm ^ 3", 1000),
        ("~dollars", "~cents", 100),
        ("~gallon", "~cups", 16),
    ],
)
def test_compatible_units_convert_exactly(a: str, b: str, ratio: Fraction) -> None:
    one, other = unit(a.split()), unit(b.split())
    assert one is not None
    assert other is not None
    assert compatible(one, other)
    assert one.factor / other.factor == ratio


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("~cm", "~cm ^ 2"),
        ("~cm", "~kg"),
        ("~units", "~square ~units"),
        ("~usd", r"\euro"),
        (r"\degree ~C", r"\degree ~F"),
        (r"\degree ~C", "~K"),
        ("~months", "~days"),
        ("~rad / ~s", "~hz"),
        ("~pounds", "~pounds ~sterling"),
        ("~m / ~s", "~m ~s"),
    ],
)
def test_units_of_other_dimensions_are_not_compatible(a: str, b: str) -> None:
    one, other = unit(a.split()), unit(b.split())
    assert one is not None
    assert other is not None
    assert not compatible(one, other)


@pytest.mark.parametrize(
    "tokens",
    [
        "", "m", "a", "I", "i n", "h r", "m g", r"\mu", r"\mu g", r"\mu m g", r"\degree", "~degrees", "~percent",
        "~per ~cent", "~pears", "~cm ~pears", "~wrong", "~squared", "~square", "~square ~root", "~per", "~a",
        "~hundred", "~million", "~dozen", "2", "^ 2", "/", "~cm ^", "~cm ^ n", "~cm ^ 0", "~cm ^ 12", "~cm ^ { 2",
        "~cm 2", "( ~cm", "( )", r"\frac { ~m }", "~feet 2 ~inches", "m ~cm", "~cm s", "~J / ~kg ~K", "~m + ~s",
        "~cm )", "~m - 1", "~m / s ^ { n }", "~b", "~x", "~M",
    ],
)  # fmt: skip
def test_what_is_no_unit_of_measure(tokens: str) -> None:
    assert unit(tokens.split()) is None


def test_nothing_behind_an_empty_token_is_missed() -> None:
    assert unit(["~cm", "", "~pears"]) is None


VOCABULARY = [
    "~cm", "~m", "~s", "~per", "~square", "~squared", "~pears", "^", "{", "}", "(", ")", "/", "-", r"\cdot", r"\frac",
    r"\mu", r"\degree", ".", "2", "9", "m", "s", "h",
]  # fmt: skip


@given(st.lists(st.sampled_from(VOCABULARY), max_size=40))
def test_any_run_is_judged_at_once(tokens: list[str]) -> None:
    start = time.perf_counter()
    found = unit(tokens)
    assert time.perf_counter() - start < 0.1
    if found:
        assert all(0 < abs(power) <= 40 for _, power in found.powers)
        assert unit(["(", *tokens, ")"]) == found or len(tokens) > 38


@pytest.mark.parametrize("tokens", ["( " * 100_000, "~km ^ 9 " * 9, "( ( ( ~km ^ 9 ) ^ 9 ) ^ 9 ) ^ 9"])
def test_towers_and_long_runs_are_none(tokens: str) -> None:
    assert unit(tokens.split()) is None
