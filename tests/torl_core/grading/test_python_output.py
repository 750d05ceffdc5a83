"""What Python, numpy and sympy print becomes LaTeX; what anybody could have written is left as it is."""

import ast
import re
import time
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy import Eq, FiniteSet, I, Interval, Matrix, Ne, Rational, S, Union, exp, oo, pi, sqrt, symbols

from torl_core.grading.python_output import from_python

x, y, n = symbols("x y n")
f = sympy.Function("f")


@pytest.mark.parametrize(
    ("printed", "latex"),
    [
        (repr(Fraction(3, 4)), r"\frac{3}{4}"),
        (repr(np.float64(5.0)), "5.0"),
        (repr(np.int64(-5)), "-5"),
        (repr(np.array([1, 2, 3])), "(1, 2, 3)"),
        (repr(np.array([[1, 2], [3, 4]])), r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (repr(mpmath.mpf("0.5")), "0.5"),
        (repr(mpmath.mpc(1, -2)), r"1.0 + (-2.0) \cdot i"),
        (repr(1e-05), "0.00001"),
        (repr(1e20), "100000000000000000000"),
        (repr(2.0**100), "1267650600228229400000000000000"),
        (repr("5"), "5"),
        (repr(["34", "35"]), "34, 35"),
        (repr({1, 2}), r"\{1, 2\}"),
        (repr(set()), r"\emptyset"),
        (repr(frozenset([1, 2])), r"\{1, 2\}"),
        (repr([(1, 2), (3, 4)]), "(1, 2), (3, 4)"),
        (repr({(1, 2)}), r"\{(1, 2)\}"),
        (repr({x: 5, y: 2}), "x = 5, y = 2"),
        (repr(sympy.solve(x**2 - 3 * x + 2, x, dict=True)), "x = 1, x = 2"),
        (repr([{x: 1, y: 2}, {x: 3, y: 4}]), "(x, y) = (1, 2), (3, 4)"),
        (repr(sympy.solve(x**2 + 2, x)), r"-\sqrt{2} \cdot i, \sqrt{2} \cdot i"),
        (repr([2 * pi, 3 * pi]), r"[2 \cdot \pi, 3 \cdot \pi]"),
        (sympy.srepr(Rational(3, 4)), r"\frac{3}{4}"),
        (sympy.srepr(S(5)), "5"),
        (sympy.srepr(sympy.Float("0.5", 15)), "0.5"),
        (str(Interval(0, 1)), "[0, 1]"),
        (str(Interval.open(0, 1)), "(0, 1)"),
        (str(Interval.Lopen(0, 1)), "(0, 1]"),
        (str(Interval.Ropen(0, 1)), "[0, 1)"),
        (str(Interval(0, oo)), r"[0, \infty)"),
        (str(Union(Interval.open(-oo, -2), Interval(2, oo))), r"(-\infty, -2) \cup [2, \infty)"),
        (str(Union(Interval(0, 1), FiniteSet(3))), r"\{3\} \cup [0, 1]"),
        (str(FiniteSet(sqrt(2), 1)), r"\{1, \sqrt{2}\}"),
        (str(S.Reals - FiniteSet(1)), r"(-\infty, 1) \cup (1, \infty)"),
        (str(sympy.Complement(S.Integers, FiniteSet(1))), r"\mathbb{Z} \setminus \{1\}"),
        (str(S.EmptySet), r"\emptyset"),
        (str(Matrix([[1, 2], [3, x]])), r"\begin{pmatrix} 1 & 2 \\ 3 & x \end{pmatrix}"),
        (str(Eq(x, 5)), "x = 5"),
        (str(Ne(x, 5)), r"x \neq 5"),
        (str(Eq(f(x), symbols("C1") * exp(x))), r"f(x) = C_{1} \cdot e^{x}"),
        (str((x > 2) & (x < 5)), r"x > 2 \text{ and } x < 5"),
        (str((x < 1) | (x > 3)), r"x > 3 \text{ or } x < 1"),
        (str(x**2 + 2 * x), r"x^{2} + 2 \cdot x"),
        (str(n**2 / 2 + n / 2), r"\frac{n^{2}}{2} + \frac{n}{2}"),
        (str(pi**2 / 6), r"\frac{\pi^{2}}{6}"),
        (str(2 - 3 * I), r"2 - 3 \cdot i"),
        (str(2 * sympy.E), r"2 \cdot e"),
        (str(sympy.cbrt(4)), r"2^{\frac{2}{3}}"),
        (str(sympy.log(8) / 2), r"\frac{\ln(8)}{2}"),
        (str(sympy.acos(Rational(1, 3))), r"\arccos(\frac{1}{3})"),
        (str(sympy.Abs(x)), r"\left|x\right|"),
        (str(sympy.floor(x / 2)), r"\lfloor \frac{x}{2} \rfloor"),
        (str(sympy.factorial(n + 1)), "(n + 1)!"),
        (str(sympy.binomial(n, 2)), r"\binom{n}{2}"),
        (str(2 * symbols("alpha_1")), r"2 \cdot \alpha_{1}"),
    ],
)
def test_what_libraries_print(printed: str, latex: str) -> None:
    assert from_python(printed) == latex


@pytest.mark.parametrize(
    ("written", "latex"),
    [
        ("Rational('3/4')", r"\frac{3}{4}"),
        ("Decimal('0.50')", "0.50"),
        ("sympy.Rational(1, 2)", r"\frac{1}{2}"),
        ("math.sqrt(2)", r"\sqrt{2}"),
        ("math.pi", r"\pi"),
        ("log(8, 2)", r"\log_{2}(8)"),
        ("root(x, 3)", r"\sqrt[3]{x}"),
        ("cbrt(4)", r"\sqrt[3]{4}"),
        ("exp(2)", "e^{2}"),
        ("abs(x)", r"\left|x\right|"),
        ("ceil(x)", r"\lceil x \rceil"),
        ("factorial(factorial(3))", "(3!)!"),
        ("Interval(0, 1, True, False)", "(0, 1]"),
        ("Interval(-oo, 3)", r"(-\infty, 3]"),
        ("Union(Intersection(Reals, {1}), {2})", r"(\mathbb{R} \cap \{1\}) \cup \{2\}"),
        ("Complement(Reals, FiniteSet(1))", r"\mathbb{R} \setminus \{1\}"),
        ("And(x > 1, Or(x < 5, x > 7))", r"x > 1 \text{ and } (x < 5 \text{ or } x > 7)"),
        ("x == 5", "x = 5"),
        ("sin(x)**2", r"(\sin(x))^{2}"),
        ("(-x)**2", "(-x)^{2}"),
        ("-x**2", "-x^{2}"),
        ("x*-y", r"x \cdot (-y)"),
        ("2**3**2", "2^{3^{2}}"),
        ("(2**3)**2", "(2^{3})^{2}"),
        ("x - (y - 2*z)", r"x - (y - 2 \cdot z)"),
        ("(x/2)**2", r"(\frac{x}{2})^{2}"),
        ("3*x, 2*y", r"3 \cdot x, 2 \cdot y"),
        ('"5"', "5"),
    ],
)
def test_what_else_comes_from_python(written: str, latex: str) -> None:
    assert from_python(written) == latex


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "-5", "1/2", "2x", "x + 1", "(1, 2)", "[1, 2]", "[1, 2, 3]", "1, 2", "{5}", "{x}", "x < 5",
        "1 < x < 5", "sqrt(2)", "sqrt(2)/2", "sin(x)", "ln(2)", "pi", "E", "I", "oo", "-oo", "(-oo, 3)", "f(x)",
        "f(x+1)", "x!", "x!=5", r"\frac{1}{2}", r"2*\pi", "|x|", "x^2 + 2*x", "5*", "2*(3", "{x: x > 2}",
        "{2*x}/{3*y}", "2*area", "x(y+1)*2", "3*4 cm", "True", "[True, False]", "None", "np.True_", "nan", "zoo",
        "np.float64(nan)", "gamma(5)", "Max(1, 2)", "0xff*2", "1_000*2", "2j*3", "1] + [2", "a for a in 2*b",
        "lambda x: x*2", "x*2 if y else 3", "f'{2*x}'", "b'5'", "'a' 'b'", "'5", "5'7''", "sqrt(x=2)",
        "Interval(0, 1)*2", "Interval(0)", "Matrix([[1], [2, 3]])", "Eq(x)", "open('file').read()",
        "__import__('os').system('true')", "x.y*2", "2*x\x00", "π*2", "x := 2*y", "[{x: 1}, {y: 2}]", "{2: 1}",
        "{pi: 1*2}", "{**x}", "Fraction('a/b')", "[[1, 2*x], [3, 4]]", "(2*x < 3) + 1",
    ],
)  # fmt: skip
def test_what_python_did_not_print(text: str) -> None:
    assert from_python(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1999, "-" * 1990 + "2*x", "2*" * 990 + "x", "[" * 600 + "(1, 2)" + "]" * 600, "x**" * 600 + "2",
        "f(" * 900, "{" * 1000 + "}" * 1000, "2*x" * 1000, "1e+999", "9" * 1990 + "*2", "2**" * 600 + "2",
        "Fraction(" * 200, "2*x, " * 300 + "1",
    ],
)  # fmt: skip
def test_any_text_is_converted_or_refused_at_once(text: str) -> None:
    start = time.perf_counter()
    latex = from_python(text)
    assert time.perf_counter() - start < 0.5
    assert latex is None or len(latex) <= 2000


LEAVES = st.integers(0, 9).map(str)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.tuples(parts, st.sampled_from("+-*/"), parts).map(lambda three: f"({three[0]}) {three[1]} ({three[2]})"),
        parts.map(lambda part: f"-({part})"),
        st.tuples(parts, st.integers(0, 3)).map(lambda two: f"({two[0]})**{two[1]}"),
    ),
    max_leaves=8,
)


def value(python: str) -> Fraction | None:
    try:
        return eval(re.sub(r"\d+", r"Fraction(\g<0>)", python))
    except ZeroDivisionError:
        return None


@given(EXPRESSIONS.map(lambda text: ast.unparse(ast.parse(text))))
def test_precedence_is_exact(python: str) -> None:
    """Braces become parentheses on the way back, so what LaTeX would read otherwise changes the value."""
    latex = from_python(python)
    if latex is None:
        assert "*" not in python
        return
    back = latex.replace(r"\frac", "").replace("}{", ")/(").replace(r"\cdot", "*").replace("^", "**")
    assert value(back.replace("{", "(").replace("}", ")")) == value(python)


@given(st.text(alphabet="x2I()[]{}*&|<,.'/-+= e", max_size=30))
def test_no_text_raises(text: str) -> None:
    latex = from_python(text)
    assert latex is None or latex
