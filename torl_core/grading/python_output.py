"""What Python, numpy and sympy print, as LaTeX: with a tool in the loop, models copy its output into the box."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from decimal import Decimal
from enum import IntEnum, auto
from typing import NamedTuple

_MOST_CHARS = 2000
_SUSPECT = re.compile(r"[*&|{'\"]|[A-Za-z]\w*\(|\[\(|==|\.[A-Za-z]|\d[eE][+-]\d|EmptySet|Reals|Integers|Naturals")
_QUOTED = re.compile(r"'([^'\\]+)'|\"([^\"\\]+)\"")
_NUMERAL = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|-?\.\d+(?:[eE][+-]?\d{1,3})?")
_EXPONENT = re.compile(r"[eE][+-]\d")
_NAME = re.compile(r"([A-Za-z]+)(?:_?(\d+)|_([A-Za-z]))?")

_MODULES = frozenset(
    ["math", "cmath", "np", "numpy", "sp", "sympy", "sym", "mpmath", "mp", "fractions", "decimal", "S"]
)
_GREEK = frozenset(
    [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu", "xi", "rho",
        "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Sigma", "Omega",
    ]
)  # fmt: skip
_CONSTANTS = {"pi": r"\pi", "I": "i", "E": "e", "oo": r"\infty", "inf": r"\infty", "lamda": r"\lambda"}
_SETS = {
    "EmptySet": r"\emptyset", "Reals": r"\mathbb{R}", "Integers": r"\mathbb{Z}", "Rationals": r"\mathbb{Q}",
    "Complexes": r"\mathbb{C}", "Naturals": r"\mathbb{N}",
}  # fmt: skip
# A function's name and how many arguments it has: LaTeX with #1 and #2 in their places.
_FUNCTIONS = {
    **{(name, 1): rf"\{name}(#1)" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln")},
    **{(a + name, 1): rf"\arc{name}(#1)" for a in ("a", "arc") for name in ("sin", "cos", "tan")},
    **{(a + name, 1): rf"\operatorname{{arc{name}}}(#1)" for a in ("a", "arc") for name in ("cot", "sec", "csc")},
    **{(a + name, 1): rf"\operatorname{{ar{name}}}(#1)" for a in ("a", "arc") for name in ("sinh", "cosh", "tanh")},
    ("log", 1): r"\ln(#1)", ("log", 2): r"\log_{#2}(#1)", ("log10", 1): r"\log_{10}(#1)", ("log2", 1): r"\log_{2}(#1)",
    ("exp", 1): "e^{#1}", ("sqrt", 1): r"\sqrt{#1}", ("cbrt", 1): r"\sqrt[3]{#1}", ("root", 2): r"\sqrt[#2]{#1}",
    ("abs", 1): r"\left|#1\right|", ("Abs", 1): r"\left|#1\right|", ("fabs", 1): r"\left|#1\right|",
    ("floor", 1): r"\lfloor #1 \rfloor", ("ceil", 1): r"\lceil #1 \rceil", ("ceiling", 1): r"\lceil #1 \rceil",
    ("binomial", 2): r"\binom{#1}{#2}", ("comb", 2): r"\binom{#1}{#2}",
    ("Fraction", 2): r"\frac{#1}{#2}", ("Rational", 2): r"\frac{#1}{#2}", ("mpq", 2): r"\frac{#1}{#2}",
}  # fmt: skip
_IN_PLAIN_MATHEMATICS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln", "sqrt", "arcsin", "arccos", "arctan"]
)
_NUMBERS = frozenset(["Integer", "Float", "Decimal", "Fraction", "Rational", "mpf", "mpz", "mpq", "int", "float"])
_NUMPY_NUMBER = re.compile(r"(?:u?int|float)\d+|longdouble")
# What sympy prints of an unknown function, as in Eq(f(x), C1*exp(x)).
_APPLIED = frozenset(["f", "g", "h", "F", "G", "H", "u", "v", "y"])
_RELATIONS: dict[str, str] = {"Eq": "=", "Ne": r"\neq", "Lt": "<", "Le": r"\leq", "Gt": ">", "Ge": r"\geq"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=", ast.NotEq: r"\neq", ast.Lt: "<", ast.LtE: r"\leq", ast.Gt: ">", ast.GtE: r"\geq"
}  # fmt: skip
_ABOUT_PRECISION = frozenset(["dtype", "precision"])
_MATRICES = frozenset(
    ["Matrix", "ImmutableMatrix", "MutableDenseMatrix", "ImmutableDenseMatrix", "SparseMatrix", "array", "matrix"]
)
_POINTS = frozenset(["Point", "Point2D", "Point3D", "Tuple"])
_SET_OPERATIONS = {"Union": r" \cup ", "Intersection": r" \cap ", "Complement": r" \setminus "}
_INTERVALS = {
    "Interval": (False, False), "Interval.open": (True, True), "Interval.Lopen": (True, False),
    "Interval.Ropen": (False, True),
}  # fmt: skip


class _Level(IntEnum):
    """What a piece of LaTeX is, and among numbers how tightly it binds."""

    LIST = auto()
    OR = auto()
    AND = auto()
    RELATION = auto()
    WORDS = auto()
    MATRIX = auto()
    TUPLE = auto()
    OPERATION = auto()
    SET = auto()
    SUM = auto()
    NEGATIVE = auto()
    PRODUCT = auto()
    POWER = auto()
    ATOM = auto()


class _Latex(NamedTuple):
    text: str
    level: _Level


class _NotPython(Exception):
    """Something in the text is nothing that Python prints as an answer."""


def from_python(text: str) -> str | None:
    """`text` as LaTeX where Python printed it; None where it did not, or where plain mathematics reads the same in it.

    `log` is the natural logarithm, as in every Python library.
    """
    text = text.strip()
    if len(text) > _MOST_CHARS or not _SUSPECT.search(text) or not text.isascii() or "\\" in text:
        return None
    if quoted := _QUOTED.fullmatch(text):
        return quoted.group(1) or quoted.group(2)
    source = f"[{' '.join(text.split())}]"
    try:
        entries = _entries(source)
        if not any(_is_pythons(node, source) for entry in entries for node in ast.walk(entry)):
            return None
        latex = _listed([_Converter(source).convert(entry) for entry in entries])
    except (SyntaxError, ValueError, RecursionError, MemoryError, _NotPython):
        return None
    return latex if len(latex) <= _MOST_CHARS else None


def _entries(source: str) -> list[ast.expr]:
    """What stands between commas: within brackets, `(1, 2)` is one entry and `1, 2` are two."""
    tree = ast.parse(source, mode="eval").body
    if not isinstance(tree, ast.List):
        raise _NotPython
    return tree.elts


def _is_pythons(node: ast.AST, source: str) -> bool:
    """Whether plain mathematics does not write, or reads otherwise, what this node says."""
    match node:
        case ast.Call(func=function):
            return _name(function) not in _IN_PLAIN_MATHEMATICS | _APPLIED
        case ast.Attribute() | ast.Dict() | ast.Constant(value=str()):
            return True
        case ast.BinOp(op=ast.Mult() | ast.Pow() | ast.BitAnd() | ast.BitOr()):
            return True
        case ast.Set(elts=elements):
            return len(elements) > 1 or isinstance(elements[0], ast.Tuple)
        case ast.List(elts=elements):
            return any(isinstance(element, ast.Tuple) for element in elements)
        case ast.Compare(ops=operations):
            return any(isinstance(operation, ast.Eq) for operation in operations)
        case ast.Name(id=name):
            return name in _SETS
        case ast.Constant(value=float()):
            return _EXPONENT.search(_source(node, source)) is not None
    return False


def _source(node: ast.expr, source: str) -> str:
    return source[node.col_offset : node.end_col_offset]


def _name(node: ast.expr) -> str:
    """The name that a function or a constant has without its module."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module in _MODULES:
            return name
        case ast.Attribute(value=value, attr=name) if f"{_name(value)}.{name}" in _INTERVALS:
            return f"{_name(value)}.{name}"
    raise _NotPython


class _Converter:
    """Turns syntax into LaTeX. A node that it does not know is nothing that Python prints as an answer."""

    def __init__(self, source: str) -> None:
        self._source = source

    def convert(self, node: ast.expr) -> _Latex:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return _named(_name(node))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _Latex("-" + self._number(operand, _Level.PRODUCT), _Level.NEGATIVE)
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as operator, right=right):
                return self._logic([left, right], _Level.AND if isinstance(operator, ast.BitAnd) else _Level.OR)
            case ast.BinOp(left=left, op=operator, right=right):
                return self._arithmetic(left, operator, right)
            case ast.BoolOp(op=operator, values=values):
                return self._logic(values, _Level.AND if isinstance(operator, ast.And) else _Level.OR)
            case ast.Compare(left=left, ops=operators, comparators=others):
                return self._relation([left, *others], [_COMPARISONS.get(type(operator)) for operator in operators])
            case ast.Call():
                return self._call(node)
        return self._collection(node)

    def _constant(self, node: ast.Constant) -> _Latex:
        text = _source(node, self._source)
        if _QUOTED.fullmatch(text):
            return _Latex(text[1:-1], _Level.WORDS)
        return _numeral(text)

    def _number(self, node: ast.expr, level: _Level = _Level.SUM) -> str:
        """A number, in parentheses where it binds less tightly than `level`."""
        text, found = self.convert(node)
        if found < _Level.SUM:
            raise _NotPython
        return text if found >= level else f"({text})"

    def _numbers(self, nodes: Sequence[ast.expr]) -> list[str]:
        return [self._number(node) for node in nodes]

    def _arithmetic(self, left: ast.expr, operator: ast.operator, right: ast.expr) -> _Latex:
        match operator:
            case ast.Add() | ast.Sub():
                sign = "+" if isinstance(operator, ast.Add) else "-"
                return _Latex(f"{self._number(left)} {sign} {self._number(right, _Level.PRODUCT)}", _Level.SUM)
            case ast.Mult():
                first = self._number(left, _Level.NEGATIVE)
                level = _Level.NEGATIVE if first.startswith("-") else _Level.PRODUCT
                return _Latex(rf"{first} \cdot {self._number(right, _Level.PRODUCT)}", level)
            case ast.Div():
                return _Latex(rf"\frac{{{self._number(left)}}}{{{self._number(right)}}}", _Level.POWER)
            case ast.Pow():
                return _Latex(f"{self._number(left, _Level.ATOM)}^{{{self._number(right)}}}", _Level.POWER)
        raise _NotPython

    def _logic(self, nodes: Sequence[ast.expr], level: _Level) -> _Latex:
        """Relations with `and` or `or` between them."""
        parts = [self.convert(node) for node in nodes]
        if not parts or any(part.level not in (_Level.OR, _Level.AND, _Level.RELATION) for part in parts):
            raise _NotPython
        words = r" \text{ and } " if level == _Level.AND else r" \text{ or } "
        return _Latex(words.join(part.text if part.level >= level else f"({part.text})" for part in parts), level)

    def _relation(self, nodes: Sequence[ast.expr], signs: Sequence[str | None]) -> _Latex:
        first, *others = self._numbers(nodes)
        if None in signs:
            raise _NotPython
        text = "".join(f" {sign} {other}" for sign, other in zip(signs, others, strict=True))
        return _Latex(first + text, _Level.RELATION)

    def _call(self, node: ast.Call) -> _Latex:
        name, arguments = _name(node.func), node.args
        named = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg not in _ABOUT_PRECISION}
        if name == "mpc" and not arguments and named.keys() == {"real", "imag"}:
            arguments, named = [named["real"], named["imag"]], {}
        if named:
            raise _NotPython
        if template := _FUNCTIONS.get((name, len(arguments))):
            return _Latex(_filled(template, self._numbers(arguments)), _Level.POWER)
        match name, arguments:
            case _, [first, *_] if name in _NUMBERS or _NUMPY_NUMBER.fullmatch(name):
                return self._wrapped(first)
            case "mpc", [real, imaginary]:
                parts = self._wrapped(real), self._wrapped(imaginary)
                return _Latex(rf"{parts[0].text} + ({parts[1].text}) \cdot i", _Level.SUM)
            case "factorial", [argument]:
                return _Latex(self._number(argument, _Level.ATOM) + "!", _Level.POWER)
            case _, [left, right] if name in _RELATIONS:
                return self._relation([left, right], [_RELATIONS[name]])
            case (("And" | "Or"), _):
                return self._logic(arguments, _Level[name.upper()])
            case _, [ast.List(elts=[_, *_] as rows)] if name in _MATRICES:
                return self._matrix(rows, name)
            case _, [_, *_] if name in _POINTS:
                return _Latex(f"({', '.join(self._numbers(arguments))})", _Level.TUPLE)
            case _, [_, *_] if name in _APPLIED and all(isinstance(one, ast.Name | ast.Constant) for one in arguments):
                return _Latex(f"{name}({', '.join(self._numbers(arguments))})", _Level.POWER)
        return self._set(name, arguments)

    def _wrapped(self, node: ast.expr) -> _Latex:
        """The number in `np.float64(5.0)`, `Decimal('0.5')` or `Fraction('3/4')`."""
        match node:
            case ast.Constant(value=str() as text) if "/" in text:
                over, under = text.split("/", 1)
                return _Latex(rf"\frac{{{_numeral(over).text}}}{{{_numeral(under).text}}}", _Level.POWER)
            case ast.Constant(value=("inf" | "-inf") as text):
                return _Latex(text.replace("inf", r"\infty"), _Level.SUM)
            case ast.Constant(value=str() as text):
                return _numeral(text)
        latex = self.convert(node)
        if latex.level < _Level.SUM:
            raise _NotPython
        return latex

    def _matrix(self, rows: Sequence[ast.expr], name: str) -> _Latex:
        """Rows of a matrix. A flat list is a column of a sympy `Matrix` and a vector of a numpy `array`."""
        if name == "array" and not any(isinstance(row, ast.List) for row in rows):
            return _Latex(f"({', '.join(self._numbers(rows))})", _Level.TUPLE)
        cells = [self._numbers(row.elts) if isinstance(row, ast.List) else [self._number(row)] for row in rows]
        if len({len(row) for row in cells}) > 1:
            raise _NotPython
        body = r" \\ ".join(" & ".join(row) for row in cells)
        return _Latex(rf"\begin{{pmatrix}} {body} \end{{pmatrix}}", _Level.MATRIX)

    def _set(self, name: str, arguments: Sequence[ast.expr]) -> _Latex:
        match name, arguments:
            case (("EmptySet" | "FiniteSet" | "set" | "frozenset"), []):
                return _Latex(_SETS["EmptySet"], _Level.SET)
            case "FiniteSet", _:
                return self._finite_set(arguments)
            case (("set" | "frozenset"), [ast.Set(elts=elements) | ast.List(elts=elements)]):
                return self._finite_set(elements)
            case _, [left, right, *opened] if name in _INTERVALS:
                return self._interval(name, [left, right], opened)
            case _, [_, _, *_] if name in _SET_OPERATIONS:
                parts = [self.convert(argument) for argument in arguments]
                if any(part.level not in (_Level.OPERATION, _Level.SET) for part in parts):
                    raise _NotPython
                texts = [part.text if part.level == _Level.SET else f"({part.text})" for part in parts]
                return _Latex(_SET_OPERATIONS[name].join(texts), _Level.OPERATION)
        raise _NotPython

    def _interval(self, name: str, ends: Sequence[ast.expr], opened: Sequence[ast.expr]) -> _Latex:
        """An interval. An end is open by the function's name, by True in the arguments, or because it is infinite."""
        left, right = self._numbers(ends)
        by_argument = [_truth(argument) for argument in opened] + [False, False]
        left_open, right_open = (by_name or said for by_name, said in zip(_INTERVALS[name], by_argument, strict=False))
        opening = "(" if left_open or left == r"-\infty" else "["
        closing = ")" if right_open or right == r"\infty" else "]"
        return _Latex(f"{opening}{left}, {right}{closing}", _Level.SET)

    def _finite_set(self, elements: Sequence[ast.expr]) -> _Latex:
        return _Latex(rf"\{{{_listed(self._elements(elements))}\}}", _Level.SET)

    def _elements(self, nodes: Sequence[ast.expr]) -> list[_Latex]:
        parts = [self.convert(node) for node in nodes]
        if any(part.level < _Level.WORDS for part in parts):
            raise _NotPython
        return parts

    def _collection(self, node: ast.expr) -> _Latex:
        match node:
            case ast.Tuple(elts=[_, *_] as elements):
                return _Latex(f"({_listed(self._elements(elements))})", _Level.TUPLE)
            case ast.Set(elts=elements):
                return self._finite_set(elements)
            case ast.Dict():
                return self._solutions([node])
            case ast.List(elts=[ast.Dict(), *_] as solutions):
                return self._solutions(solutions)
            case ast.List(elts=[_, *_] as elements):
                # Two numbers in brackets can be an interval too, so the brackets stay where an interval is possible.
                parts = self._elements(elements)
                numbers = all(part.level >= _Level.SUM for part in parts) and not _is_complex(node)
                in_brackets = numbers and not any(map(_is_number_call, elements))
                return _Latex(f"[{_listed(parts)}]" if in_brackets else _listed(parts), _Level.LIST)
        raise _NotPython

    def _solutions(self, solutions: Sequence[ast.expr]) -> _Latex:
        """What `solve` found: `x = 1, x = 2` for one unknown, `(x, y) = (1, 2), (3, 4)` for several."""
        rows = [self._solution(solution) for solution in solutions]
        names = list(rows[0])
        if any(list(row) != names for row in rows):
            raise _NotPython
        if len(rows) == 1 or len(names) == 1:
            return _Latex(", ".join(f"{name} = {row[name]}" for row in rows for name in names), _Level.LIST)
        values = ", ".join(f"({', '.join(row.values())})" for row in rows)
        return _Latex(f"({', '.join(names)}) = {values}", _Level.LIST)

    def _solution(self, node: ast.expr) -> dict[str, str]:
        if not isinstance(node, ast.Dict) or not node.keys:
            raise _NotPython
        names = [key.id for key in node.keys if isinstance(key, ast.Name) and key.id not in _CONSTANTS]
        if len(set(names)) < len(node.keys):
            raise _NotPython
        return {_named(name).text: self._number(value) for name, value in zip(names, node.values, strict=True)}


def _listed(parts: Sequence[_Latex]) -> str:
    return ", ".join(part.text for part in parts)


def _is_number_call(node: ast.expr) -> bool:
    """`Fraction(1, 2)` or `np.int64(3)`: a list of such was printed, and nobody writes an interval so."""
    name = _name(node.func) if isinstance(node, ast.Call) else ""
    return name in _NUMBERS or bool(_NUMPY_NUMBER.fullmatch(name))


def _is_complex(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "I" for one in ast.walk(node))


def _truth(node: ast.expr) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, bool):
        raise _NotPython
    return node.value


def _filled(template: str, arguments: Sequence[str]) -> str:
    for place, argument in enumerate(arguments, 1):
        template = template.replace(f"#{place}", argument)
    return template


def _numeral(text: str) -> _Latex:
    """A decimal numeral, with an exponent written out: every digit of it is exact."""
    text = text.strip()
    if not _NUMERAL.fullmatch(text):
        raise _NotPython
    if "e" in text.casefold():
        text = format(Decimal(text), "f")
    return _Latex(text.removesuffix("."), _Level.NEGATIVE if text.startswith("-") else _Level.ATOM)


def _named(name: str) -> _Latex:
    """A constant, a set, or a symbol of one letter, which an index may follow."""
    if name in _SETS:
        return _Latex(_SETS[name], _Level.SET)
    if name in _CONSTANTS:
        return _Latex(_CONSTANTS[name], _Level.ATOM)
    match = _NAME.fullmatch(name)
    if match is None or (len(match[1]) > 1 and match[1] not in _GREEK):
        raise _NotPython
    stem = "\\" + match[1] if match[1] in _GREEK else match[1]
    index = match[2] or match[3]
    return _Latex(f"{stem}_{{{index}}}" if index else stem, _Level.ATOM)
