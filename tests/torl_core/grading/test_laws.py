"""Laws of sameness, on generated answers of most kinds."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torl_core.grading.equivalence import equivalent

NUMBERS = st.integers(-99, 99)
POSITIVE = st.integers(2, 99)
LETTERS = st.sampled_from("xyzabnt")
NOUNS = st.sampled_from(["girls", "boys", "apples", "ways", "red balls", "pages"])
UNITS = st.sampled_from(["cm", "kg", "s", "ml", "acre", "mi", "N"])
WORDS = st.sampled_from(["even", "odd", "Monday", "Friday", "yes", "no", "ellipse", "hyperbola", "Ann", "Ben"])
FRACTIONS = st.builds(r"\frac{{{}}}{{{}}}".format, POSITIVE, POSITIVE)
ROOTS = st.builds(r"{}\sqrt{{{}}}".format, POSITIVE, st.sampled_from([2, 3, 5, 6, 7]))
POLYNOMIALS = st.builds("{}{}^2+{}{}-{}".format, POSITIVE, LETTERS, POSITIVE, st.just("w"), POSITIVE)
FUNCTIONS = st.builds("f({}+{})-g({})".format, LETTERS, POSITIVE, POSITIVE)
SCALARS = st.one_of(NUMBERS.map(str), FRACTIONS, ROOTS, POLYNOMIALS, FUNCTIONS)
ENDS = st.lists(NUMBERS, min_size=4, max_size=4, unique=True).map(sorted)
REGIONS = st.one_of(
    ENDS.map(lambda e: f"[{e[0]},{e[1]})\\cup({e[2]},{e[3]}]"),
    ENDS.map(lambda e: f"{e[0]}<x\\leq {e[1]}"),
    NUMBERS.map("x>{}".format),
    NUMBERS.map(r"x\neq {}".format),
)
QUANTITIES = st.one_of(
    st.builds(r"{}\text{{ {}}}".format, POSITIVE, UNITS),
    st.builds(r"{}\text{{ {}}}".format, POSITIVE, NOUNS),
    POSITIVE.map(r"{}\%".format),
    POSITIVE.map(r"{}^\circ".format),
    POSITIVE.map(r"\${}".format),
)
EQUATIONS = st.one_of(
    st.builds("{}={}{}+{}".format, st.just("y"), POSITIVE, st.just("x"), POSITIVE),
    st.builds("x={}, y={}".format, NUMBERS, NUMBERS),
    st.builds(r"x\equiv {}\pmod{{{}}}".format, st.integers(0, 9), st.integers(10, 50)),
)
CHOICES = st.builds(r"({}) {}".format, st.sampled_from("ABCDE"), POSITIVE)
TIMES = st.builds("{}:{:02d}".format, st.integers(1, 12), st.integers(0, 59))
TEXTS = WORDS.map(r"\text{{{}}}".format)
ITEMS = st.lists(SCALARS, min_size=2, max_size=4)
GROUPS = st.one_of(
    ITEMS.map(lambda items: f"({', '.join(items)})"),
    ITEMS.map(", ".join),
    ITEMS.map(lambda items: rf"\{{{', '.join(items)}\}}"),
    ITEMS.map(lambda items: rf"\begin{{pmatrix}}{' & '.join(items)}\end{{pmatrix}}"),
)
ANSWERS = st.one_of(SCALARS, REGIONS, QUANTITIES, EQUATIONS, CHOICES, TIMES, TEXTS, GROUPS)


def respelled(answer: str) -> list[str]:
    """The same answer in other spellings."""
    return [
        f"$ {answer} $",
        rf"\displaystyle {answer}",
        rf"\Large{{{answer}}}",
        rf"\boxed{{{answer}}}.",
        answer.replace(",", r",\;"),
        answer.replace("+", " + ").replace("-", "−"),
        answer.replace(r"\frac", r"\dfrac").replace(r"\leq", r"\leqslant"),
        answer.replace("(", r"\left(").replace(")", r"\right)").replace("[", r"\left[").replace("]", r"\right]"),
        answer.replace(r"\text{", r"\mbox{ "),
        answer.replace(r"^\circ", "°").replace(r"\%", r"\text{ percent}"),
        answer.replace(r"\text{ cm}", r"\,\mathrm{cm}").replace(r"\text{ kg}", r"\text{ kilograms}"),
    ]


@given(ANSWERS, st.data())
def test_spelling_does_not_matter(answer: str, data: st.DataObject) -> None:
    other = data.draw(st.sampled_from(respelled(answer)))
    assert equivalent(answer, other).correct is True, other
    assert equivalent(other, answer).correct is True, other


@given(ANSWERS, ANSWERS)
def test_sameness_is_symmetric(gold: str, answer: str) -> None:
    bare_part = {gold, answer} & {"0"}  # a bare gold below one is no number of percent
    assume(not bare_part)
    assert equivalent(gold, answer).correct is equivalent(answer, gold).correct


def changed(pattern: str, replacements: list[str]) -> Callable[[str, st.DataObject], str]:
    """A function that changes one occurrence of `pattern` in an answer to something else."""

    def change(answer: str, data: st.DataObject) -> str:
        found = list(re.finditer(pattern, answer))
        assume(found)
        match = data.draw(st.sampled_from(found))
        other = data.draw(st.sampled_from([text for text in replacements if text != match.group()]))
        return answer[: match.start()] + other + answer[match.end() :]

    return change


INTERVALS = ENDS.map(lambda e: f"[{e[0]},{e[1]})\\cup({e[2]},{e[3]}]")
COUNTED = st.builds(r"{}\text{{ {}}}".format, POSITIVE, st.sampled_from(["girls", "boys", "apples", "pages"]))
MEASURED = st.builds(r"{}\text{{ {}}}".format, POSITIVE, UNITS)
CHANGES = {
    "a digit": (ANSWERS, changed(r"\d", list("0123456789"))),
    "a sign": (st.one_of(SCALARS, GROUPS), changed(r"[+-]", ["+", "-"])),
    "a relation": (
        st.one_of(REGIONS, EQUATIONS),
        changed(r"\\leq|\\neq|[<>=]", [r"\leq ", r"\geq ", r"\neq ", "<", ">", "="]),
    ),
    "a letter": (
        st.one_of(POLYNOMIALS, FUNCTIONS, EQUATIONS),
        changed(r"(?<![a-zA-Z\\])[xyzabntw](?![a-zA-Z])", list("xyzabntwuv")),
    ),
    "a choice": (CHOICES, changed(r"[ABCDE]", list("ABCDE"))),
    "a function": (FUNCTIONS, changed(r"[fg](?=\()", ["f", "g", "h"])),
    "a word": (TEXTS, changed(r"(?<=\{)[A-Za-z]+(?=\})", ["even", "odd", "Monday", "no", "Ann", "circle"])),
    "a noun": (COUNTED, changed(r"(?<=\{ )[a-z]+(?=\})", ["girls", "boys", "apples", "pages", "cats"])),
    "a unit": (MEASURED, changed(r"(?<=\{ )[a-zN]+(?=\})", ["m", "g", "min", "l", "ft", "km", "J", "girls"])),
    "a lower end": (INTERVALS, changed(r"[\[(]", ["[", "("])),
    "an upper end": (INTERVALS, changed(r"[\])]", ["]", ")"])),
    "a prime": (FUNCTIONS, changed(r"(?<=[fg])(?=\()", ["'", "''"])),
}


@pytest.mark.parametrize("what", CHANGES)
@given(data=st.data())
def test_a_changed_answer_is_not_accepted(what: str, data: st.DataObject) -> None:
    answers, change = CHANGES[what]
    answer = data.draw(answers)
    wrong = change(answer, data)
    assume(not_the_same_by_value(answer, wrong))
    assert equivalent(answer, wrong).correct is False, wrong


def not_the_same_by_value(answer: str, wrong: str) -> bool:
    """Leaves out what a change happens to leave as it was: zeros, terms that cancel, sets with equal members."""
    numbers, others = (re.findall(r"\d+", text) for text in (answer, wrong))
    ratio = (
        numbers != others
        and len(numbers) == 2 == len(others)
        and int(numbers[0]) * int(others[1]) == int(others[0]) * int(numbers[1])
    )
    zeros = "0" in (*numbers, *others) or any(int(number) == 0 for number in (*numbers, *others))
    members = sorted(re.split(r"[,&{}]", answer)) == sorted(re.split(r"[,&{}]", wrong))
    return not (ratio or zeros or members or answer.replace(" ", "") == wrong.replace(" ", ""))


@given(st.text(alphabet="0123456789+-*/^_=<>()[]{}|,.:;'!~&xyzfCdi\\ ", max_size=120))
@settings(max_examples=300, deadline=None)
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    for gold in ("7", "x+1", "(1,2)", r"[0,1)\cup(2,3]", "y=Ce^x", text):
        assert equivalent(gold, text).correct in (True, False)
    assert time.process_time() - start < 3


PIECES = [
    r"\frac{", "}", "(", ")", "[", "]", r"\{", r"\}", ",", ";", "=", "<", r"\leq", r"\pm", "x", "2", "3", "f(", "^{",
    r"\sqrt{", "_{", "|", r"\cup", r"\in", r"\text{and}", r"\text{or}", ":", r"\neg", r"\sum_{k=1}^{9}", "&", "\\\\",
    "'", "!", r"\begin{pmatrix}", r"\end{pmatrix}", r"\int_0^1", "dx", r"k\in\mathbb{Z}", r"\%", "A)", r"\text{cm}",
]  # fmt: skip


@given(
    st.lists(
        st.sampled_from(PIECES),
        max_size=60,
    )
)
@settings(max_examples=300, deadline=None)
def test_no_structure_takes_long(pieces: list[str]) -> None:
    text = " ".join(pieces)
    start = time.process_time()
    assert equivalent(text, text + " x").correct in (True, False)
    assert equivalent("(1,2)", text).correct in (True, False)
    assert time.process_time() - start < 3
