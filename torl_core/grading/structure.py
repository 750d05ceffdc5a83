r"""The shape of an answer: scalar, list, tuple, interval or other set, matrix, equation, inequality, numeral in a base.

`readings` turns tokens into shapes. An answer whose spelling is ambiguous (`1,234`) has more than one reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Symbol, Unreadable, is_number, parse, symbols
from torl_core.grading.normalise import CLOSING, OPENING, WORDS, Tokens, closing
from torl_core.grading.units import unit

MAX_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Scalar:
    """`mark` is % or a degree sign behind the whole, not part of `tree`; `unit` is canonical or None."""

    tree: Expr
    mark: str = ""
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """`kind` is `list` (bare), `set` (braces) or the brackets themselves, as in `(]`."""

    kind: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Union:
    parts: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Except:
    """The real numbers without some."""

    points: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    kind: str
    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = value`, and as an equation where both sides are scalar."""

    name: Tokens
    value: Answer


@dataclass(frozen=True, slots=True)
class Equation:
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Inequality:
    """Sides with `<` or `\\leq` between them (written so that they rise), or two sides with `\\neq`."""

    sides: tuple[Expr, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Based:
    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Ratio:
    terms: tuple[Expr, ...]


Answer = Scalar | Words | Group | Union | Except | Matrix | Assignment | Equation | Inequality | Based | Ratio

_RISING = {"<": "<", "\\leq": "\\leq", ">": "<", "\\geq": "\\leq", "\\neq": "\\neq"}
_RELATIONS = frozenset(_RISING)
_BRACKETS = frozenset(["()", "[]", "(]", "[)"])
_NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
_CHOICES = frozenset("ABCDEFGHIJ")


def readings(tokens: Tokens) -> list[Answer]:
    """Every reading of an answer, the likeliest first; empty where nothing could be read."""
    spellings = [_thousands(tokens, as_number=True)]
    if any(_is_grouped(token) for token in tokens):
        spellings.append(_thousands(tokens, as_number=False))
    label = _label(spellings[0])
    if label:
        spellings += [(label,), spellings[0][3:]]
    found = []
    for spelling in spellings:
        try:
            found.append(read(spelling))
        except Unreadable:
            continue
    return found


def _label(tokens: Tokens) -> str | None:
    """The letter of a choice that stands in front of its content, as in `(B) 12`."""
    labelled = len(tokens) > 3 and tokens[0] == "(" and tokens[1] in _CHOICES and tokens[2] == ")"
    return tokens[1] if labelled and tokens[3] not in ("+", "-", "^", "=", ",", "/", "\\cdot", "\\cup", "(") else None


def _is_grouped(token: str) -> bool:
    return is_number(token) and "," in token


def _thousands(tokens: Tokens, as_number: bool) -> Tokens:
    """`1,234` as one numeral or as two; within brackets always two, a tuple being likelier there."""
    out: list[str] = []
    depth = 0
    for token in tokens:
        depth += (token in OPENING and token != "{") - (token in CLOSING and token != "}")
        if _is_grouped(token):
            joined = as_number and depth == 0
            out += [token.replace(",", "")] if joined else " , ".join(token.split(",")).split(" ")
        else:
            out.append(token)
    return tuple(out)


def read(tokens: Tokens) -> Answer:
    """Raises Unreadable."""
    tokens = _trimmed(tokens)
    if not tokens:
        raise Unreadable("nothing")
    if tokens == ("\\emptyset",):
        return Group("set", ())
    if parts := _split(tokens, (",", ";", WORDS + "and", WORDS + "or", "\\vee")):
        return Group("list", tuple(_expanded(part for part in parts if part)))
    if parts := _split(tokens, ("\\cup",)):
        return Union(tuple(read(part) for part in parts))
    if parts := _split(tokens, ("\\setminus", "\\backslash")):
        return _except(parts)
    for reader in (_words, _based, _enclosed, _matrix, _membership, _relation, _ratio):
        if (answer := reader(tokens)) is not None:
            return answer
    return _alternatives(tokens) or _scalar(tokens)


def _trimmed(tokens: Tokens) -> Tokens:
    while tokens and tokens[-1] in (".", ",", ";"):
        tokens = tokens[:-1]
    while tokens and tokens[0] in ("\\approx",):
        tokens = tokens[1:]
    if len(tokens) > 2 and tokens[0] == "{" and closing(tokens, 0) == len(tokens) - 1:
        return _trimmed(tokens[1:-1])
    if "\\approx" in tokens:
        return tokens[: tokens.index("\\approx")]
    return tokens


def _split(tokens: Tokens, separators: tuple[str, ...]) -> list[Tokens] | None:
    """The parts between top-level separators; None when there are none."""
    parts: list[Tokens] = []
    depth = start = 0
    for i, token in enumerate(tokens):
        depth += (token in OPENING or token.startswith("\\begin{")) - (token in CLOSING or token.startswith("\\end{"))
        if depth == 0 and token in separators:
            parts.append(tokens[start:i])
            start = i + 1
    if start == 0:
        return None
    parts.append(tokens[start:])
    if len(parts) > MAX_ITEMS:
        raise Unreadable(f"more than {MAX_ITEMS} parts")
    return parts


def _expanded(parts: Iterable[Tokens]) -> list[Answer]:
    return [item for part in parts for item in _signs(part)]


def _signs(tokens: Tokens) -> list[Answer]:
    r"""Both values of an expression with `\pm`."""
    if "\\pm" not in tokens and "\\mp" not in tokens:
        return [read(tokens)]
    both = []
    for plus, minus in (("+", "-"), ("-", "+")):
        both.append(read(tuple({"\\pm": plus, "\\mp": minus}.get(token, token) for token in tokens)))
    return both


def _alternatives(tokens: Tokens) -> Answer | None:
    return Group("list", tuple(_signs(tokens))) if "\\pm" in tokens or "\\mp" in tokens else None


def _words(tokens: Tokens) -> Answer | None:
    if not all(token.startswith(WORDS) for token in tokens):
        return None
    text = " ".join(token[len(WORDS) :] for token in tokens)
    if text in _NUMERALS:
        return Scalar(Number(Fraction(_NUMERALS.index(text))))
    return Words(text)


def _based(tokens: Tokens) -> Answer | None:
    """Digits (letters past nine) with a subscript that is a number: `2516_8`, `A5_{11}`, `-37_8`."""
    sign = "-" if tokens[0] == "-" else ""
    body = tokens[1:] if sign else tokens
    if "_" not in body:
        return None
    cut = body.index("_")
    digits, base = "".join(body[:cut]).strip("()"), "".join(body[cut + 1 :]).strip("{}")
    if base in (WORDS + name for name in _NUMERALS):
        base = str(_NUMERALS.index(base[len(WORDS) :]))
    if not digits.isalnum() or not digits.isascii() or not base.isdigit() or not any(c.isdigit() for c in digits):
        return None
    return Based(sign + (digits.upper().lstrip("0") or "0"), int(base[:6]))


def _enclosed(tokens: Tokens) -> Answer | None:
    if tokens[0] not in OPENING or closing(tokens, 0) != len(tokens) - 1:
        return None
    inner = tokens[1:-1]
    kind = tokens[0] + tokens[-1]
    if tokens[0] == "\\{":
        return _set(inner)
    if kind == "\\langle\\rangle":
        kind = "()"
    if kind in ("()", "[]") and inner and inner[0].startswith("\\begin{"):
        return _matrix(inner)
    items = _split(inner, (",", ";")) if kind in _BRACKETS else None
    if items:
        return Group(kind, tuple(_expanded(items)))
    if kind == "()" and len(inner) == 1 and inner[0] in _CHOICES:
        return Scalar(Symbol(inner[0]))
    return Group("set", tuple(_signs(inner))) if kind == "[]" and inner else None


def _set(inner: Tokens) -> Answer:
    if not inner:
        return Group("set", ())
    condition = _split(inner, ("|", ":"))
    if condition and len(condition) == 2:
        return read(condition[1])
    return Group("set", tuple(_expanded(_split(inner, (",", ";")) or [inner])))


def _except(parts: list[Tokens]) -> Answer:
    whole = read(parts[0])
    if len(parts) != 2 or whole not in (Scalar(Symbol("\\reals")), read(("(", "-", "\\infty", ",", "\\infty", ")"))):
        raise Unreadable("a difference of sets other than of the real numbers")
    removed = read(parts[1])
    items = removed.items if isinstance(removed, Group) and removed.kind == "set" else ()
    points = tuple(item.tree for item in items if isinstance(item, Scalar))
    if not points or len(points) != len(items):
        raise Unreadable("what is removed is not a set of numbers")
    return Except(points)


def _matrix(tokens: Tokens) -> Answer | None:
    if not tokens[0].startswith("\\begin{") or tokens[-1] != tokens[0].replace("\\begin", "\\end"):
        return None
    body = tokens[1:-1]
    if tokens[0] == "\\begin{array}" and body and body[0] == "{":
        body = body[closing(body, 0) + 1 :]
    elif tokens[0] == "\\begin{array}":
        body = body[1:]
    rows = [row for row in (_split(body, ("\\\\",)) or [body]) if row]
    kind = "determinant" if tokens[0] == "\\begin{vmatrix}" else "matrix"
    return Matrix(kind, tuple(tuple(read(cell) for cell in _split(row, ("&",)) or [row]) for row in rows))


def _membership(tokens: Tokens) -> Answer | None:
    parts = _split(tokens, ("\\in",))
    if not parts:
        return None
    if len(parts) != 2 or not _is_name(parts[0]):
        raise Unreadable("membership of something that is not a variable")
    return read(parts[1])


def _is_name(tokens: Tokens) -> bool:
    r"""Whether this can stand left of a definition: `x`, `AB`, `a_1`, `f(x)`, `(x,y)`, `\text{area}`."""
    if tokens[1:6] == ("^", "{", "-", "1", "}"):  # f^{-1}(x)
        tokens = (tokens[0], *tokens[6:])
    allowed = all(
        token.startswith(WORDS)
        or token in ("(", ")", "{", "}", "_", ",", "'", "\\angle", "\\triangle")
        or (token.isalpha() and len(token) == 1)
        or (
            token[0] == "\\"
            and token[1:].isalpha()
            and token not in ("\\pi", "\\infty", "\\frac", "\\sqrt", "\\degree")
        )
        or (token.isdigit() and i > 0 and tokens[i - 1] in ("_", "{"))
        for i, token in enumerate(tokens)
    )
    return bool(tokens) and allowed and tokens not in (("e",), ("i",)) and not tokens[0].isdigit()


def _relation(tokens: Tokens) -> Answer | None:
    if parts := _split(tokens, ("=",)):
        return _equality(parts)
    parts = _split(tokens, tuple(_RELATIONS))
    if not parts:
        return None
    marks = _relation_marks(tokens)
    sides = [_side(part) for part in parts]
    if any(mark in (">", "\\geq") for mark in marks):
        if any(mark in ("<", "\\leq") for mark in marks):
            raise Unreadable("inequalities of both directions")
        sides.reverse()
        marks.reverse()
    return Inequality(tuple(sides), tuple(_RISING[mark] for mark in marks))


def _relation_marks(tokens: Tokens) -> list[str]:
    depth = 0
    marks = []
    for token in tokens:
        depth += (token in OPENING) - (token in CLOSING)
        if depth == 0 and token in _RELATIONS:
            marks.append(token)
    return marks


def _side(tokens: Tokens) -> Expr:
    answer = _scalar(tokens)
    return answer.tree


def _equality(parts: list[Tokens]) -> Answer:
    if _is_name(parts[-1]) and len(parts) == 2 and not _is_name(parts[0]):
        parts = parts[::-1]
    if _is_name(parts[0]):
        return Assignment(parts[0], read(parts[1]) if len(parts) == 2 else _equality(parts[1:]))
    sides = [_scalar(part) for part in parts]
    if len(sides) == 2 and any(symbols(side.tree) for side in sides):
        return Equation(sides[0].tree, sides[1].tree)
    return _chain(sides)


def _chain(sides: list[Scalar]) -> Scalar:
    """The value of `a = b = c`, which is its last side when all are the same; a contradiction has none."""
    from torl_core.grading.values import same_value

    values = [marked(side) for side in sides]
    if not all(same_value(values[0], value) for value in values[1:]):
        raise Unreadable("sides that are not equal")
    return sides[-1]


def marked(scalar: Scalar) -> Expr:
    """The tree with its mark applied: percent as hundredths, degrees as radians."""
    if scalar.mark == "%":
        return Call("/", (scalar.tree, Number(Fraction(100))))
    if scalar.mark:
        return Call("*", (scalar.tree, Call("/", (Symbol("\\pi"), Number(Fraction(180))))))
    return scalar.tree


def _ratio(tokens: Tokens) -> Answer | None:
    parts = _split(tokens, (":",))
    return Ratio(tuple(parse(part) for part in parts)) if parts else None


def _scalar(tokens: Tokens) -> Scalar:
    if not tokens:
        raise Unreadable("nothing")
    if tokens == ("\\reals",):
        return Scalar(Symbol("\\reals"))
    name: str | None = None
    if tokens[0] in ("\\dollars", "\\euro", "\\pounds"):
        name, tokens = {"\\dollars": "dollar^1", "\\euro": "euro^1"}.get(tokens[0], "pound sterling^1"), tokens[1:]
    elif tokens[:2] == ("-", "\\dollars"):
        name, tokens = "dollar^1", ("-", *tokens[2:])
    first = next((i for i, token in enumerate(tokens) if token.startswith(WORDS)), len(tokens))
    tail, tokens = tokens[first:], tokens[:first]
    if any(not (token.startswith(WORDS) or token in "^/23{}." or token == "\\cdot") for token in tail):
        raise Unreadable("words in the middle")
    if tokens and tokens[-1] == "\\dollars":
        name, tokens = "dollar^1", tokens[:-1]
    if not tokens:
        raise Unreadable("no number")
    words = " ".join(token.removeprefix(WORDS) for token in tail if token not in "^{}.").replace("\\cdot", " ")
    mark = tokens[-1] if tokens[-1] in ("%", "\\degree") and _marks_whole(tokens) else ""
    return Scalar(parse(tokens[:-1] if mark else tokens), mark, name or unit(words))


def _marks_whole(tokens: Tokens) -> bool:
    return len(tokens) > 1 and not any(
        token in ("+",) or token[1:4] in ("sin", "cos", "tan", "cot", "sec", "csc") for token in tokens
    )
