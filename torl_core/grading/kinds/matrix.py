r"""Matrices, vectors and determinants, and what is computed with them: `\frac12\begin{pmatrix}1\\2\end{pmatrix}`,
`(1,0,0)+t(2,3,4)`, a transpose.

A column is the tuple of its entries. A determinant is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torl_core.grading.expression import Call, Expr, Number, Unreadable, parse, put, symbols
from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.kinds.bracket import Group, same_in_order
from torl_core.grading.kinds.quantity import Quantity
from torl_core.grading.tokens import Tokens, closing, split


@dataclass(frozen=True, slots=True)
class Matrix(Answer):
    rows: tuple[tuple[Answer, ...], ...]


_ENVIRONMENTS = frozenset(f"\\begin{{{name}}}" for name in ("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix"))
_DETERMINANTS = frozenset(["\\begin{vmatrix}", "\\begin{Vmatrix}"])
_MAX_DETERMINANT = 5
_ONE = Number(Fraction(1))


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if tokens[0] == "\\det" and len(tokens) > 1:
        inner = _entries(tokens[1:], kinds)
        return Quantity(_determinant(inner)) if inner else None
    if entries := _entries(tokens, kinds):
        return Quantity(_determinant(entries)) if _is_determinant(tokens) else Matrix(entries)
    return _transpose(tokens, kinds) or _combination(tokens, kinds)


def _is_determinant(tokens: Tokens) -> bool:
    return tokens[0] in _DETERMINANTS or (tokens[0] == "|" and tokens[-1] == "|")


def _entries(tokens: Tokens, kinds: Kinds) -> tuple[tuple[Answer, ...], ...] | None:
    if tokens[0] in ("(", "[", "|") and len(tokens) > 2 and tokens[1].startswith("\\begin{"):
        tokens = tokens[1:-1]
    if tokens[0] not in _ENVIRONMENTS | _DETERMINANTS and tokens[0] != "\\begin{array}":
        return None
    if tokens[-1] != tokens[0].replace("\\begin", "\\end") or tokens.count(tokens[0]) > 1:
        return None
    body = tokens[1:-1]
    if tokens[0] == "\\begin{array}" and body:
        body = body[closing(body, 0) + 1 :] if body[0] == "{" else body[1:]
    rows = [row for row in split(body, ("\\\\",)) if row]
    if not rows:
        raise Unreadable("a matrix without rows")
    return tuple(tuple(kinds.read(cell) for cell in split(row, ("&",))) for row in rows)


def _determinant(rows: Sequence[Sequence[Answer]]) -> Expr:
    """Expanded along the first row. Raises Unreadable for what is not square, scalar and small."""
    if len(rows) > _MAX_DETERMINANT or any(len(row) != len(rows) for row in rows):
        raise Unreadable("a determinant that is not square or too large")
    first = rows[0]
    terms: list[Expr] = []
    for i, entry in enumerate(first):
        if not isinstance(entry, Quantity):
            raise Unreadable("an entry that is not scalar")
        minor = [[*row[:i], *row[i + 1 :]] for row in rows[1:]]
        term = Call("*", (entry.tree, _determinant(minor))) if minor else entry.tree
        terms.append(Call("neg", (term,)) if i % 2 else term)
    total = terms[0]
    for term in terms[1:]:
        total = Call("+", (total, term))
    return total


def _transpose(tokens: Tokens, kinds: Kinds) -> Answer | None:
    if len(tokens) < 4 or tokens[-2] != "^" or tokens[-1] not in ("T", "\\top", "'"):
        return None
    matrix = kinds.read(tokens[:-2])
    if isinstance(matrix, Group) and matrix.kind in ("()", "[]"):
        return Matrix(tuple((item,) for item in matrix.items))
    if not isinstance(matrix, Matrix) or len({len(row) for row in matrix.rows}) != 1:
        return None
    return Matrix(tuple(zip(*matrix.rows, strict=True)))


def _combination(tokens: Tokens, kinds: Kinds) -> Answer | None:
    """Sums of multiples of vectors or matrices, entry by entry."""
    if not any(token in ("(", "\\langle", "[") or token.startswith("\\begin{") for token in tokens):
        return None
    terms = _terms(tokens)
    if len(terms) == 1 and _start_of_vector(tokens) == 0:
        return None  # one vector, which is for `bracket`
    scaled = [_scaled(sign, term, kinds) for sign, term in terms]
    found = [rows for rows in scaled if rows is not None]
    if len(found) < len(scaled) or len({(len(rows), len(rows[0])) for rows in found}) != 1:
        return None
    total = found[0]
    for other in found[1:]:
        total = [[Call("+", (a, b)) for a, b in zip(x, y, strict=True)] for x, y in zip(total, other, strict=True)]
    rows = tuple(tuple(Quantity(entry) for entry in row) for row in total)
    return Matrix(rows) if any("begin" in token for token in tokens) else Group("()", rows[0])


def _terms(tokens: Tokens) -> list[tuple[str, Tokens]]:
    """Top-level terms with their signs."""
    terms: list[tuple[str, Tokens]] = []
    depth, start, sign = 0, 0, "+"
    for i, token in enumerate(tokens):
        if depth == 0 and token in ("+", "-"):
            if i > start:
                terms.append((sign, tokens[start:i]))
            sign, start = token, i + 1
        depth += token in ("(", "[", "{", "\\langle") or token.startswith("\\begin{")
        depth -= token in (")", "]", "}", "\\rangle") or token.startswith("\\end{")
    return [*terms, (sign, tokens[start:])]


def _scaled(sign: str, term: Tokens, kinds: Kinds) -> list[list[Expr]] | None:
    """The entries of one multiple of a vector or matrix; None for anything else."""
    start = _start_of_vector(term)
    if start is None:
        return None
    factor: Expr = _ONE
    if coefficient := term[:start]:
        if coefficient[-1] in ("\\cdot", "\\times"):
            coefficient = coefficient[:-1]
        try:
            factor = parse(coefficient)
        except Unreadable:  # the arguments of a function, as in `\\max(a, b)`
            return None
    if sign == "-":
        factor = Call("neg", (factor,))
    value = kinds.read(term[start:])
    if isinstance(value, Group) and value.kind in ("()", "[]") and len(value.items) > 1:
        value = Matrix((value.items,))
    if not isinstance(value, Matrix):
        return None
    trees = [[entry.tree for entry in row if isinstance(entry, Quantity)] for row in value.rows]
    if any(len(row) < len(entries) for row, entries in zip(trees, value.rows, strict=True)):
        return None
    return [[tree if factor == _ONE else Call("*", (factor, tree)) for tree in row] for row in trees]


def _start_of_vector(term: Tokens) -> int | None:
    """Where the last bracket or environment of the term begins, if the term ends with it."""
    for i, token in enumerate(term):
        if token.startswith("\\begin{") and term[-1].startswith("\\end{"):
            return i
        if token in ("(", "\\langle", "[") and closing(term, i) == len(term) - 1 and "," in term[i:]:
            return i
    return None


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    match gold, answer:
        case Matrix(), Matrix():
            return len(gold.rows) == len(answer.rows) and all(
                same_in_order(a, b, kinds) for a, b in zip(gold.rows, answer.rows, strict=True)
            )
        case (Matrix() as matrix, Group() as group) | (Group() as group, Matrix() as matrix):
            return _same_vector(matrix, group, matrix is gold, kinds)
        case (Quantity(tree=tree), Group(kind="()" | "[]", items=items)) if vector := _components(tree, len(items)):
            return same_in_order(vector, items, kinds)
        case (Group(kind="()" | "[]", items=items), Quantity(tree=tree)) if vector := _components(tree, len(items)):
            return same_in_order(items, vector, kinds)
        case (Quantity(tree=tree), Matrix(rows=rows)) if vector := _components(tree, max(len(rows), len(rows[0]))):
            return _same_vector(answer, Group("()", vector), False, kinds)
        case (Matrix(rows=rows), Quantity(tree=tree)) if vector := _components(tree, max(len(rows), len(rows[0]))):
            return _same_vector(gold, Group("()", vector), True, kinds)
        case (Matrix(), _) | (_, Matrix()):
            return False
    return None


def _components(tree: Expr, size: int) -> tuple[Answer, ...] | None:
    r"""The components of `2\vec{i} - \vec{j}`."""
    units = ["\\vec i", "\\vec j", "\\vec k"]
    if not symbols(tree) & set(units) or not 2 <= size <= 3:
        return None
    found = []
    for own in units[:size]:
        component = tree
        for other in units:
            component = put(component, other, Number(Fraction(int(other == own))))
        found.append(Quantity(component))
    return tuple(found)


def _same_vector(matrix: Matrix, group: Group, matrix_is_gold: bool, kinds: Kinds) -> bool:
    """A row or column is the tuple of its entries; a list of lists is a matrix."""
    if all(isinstance(item, Group) and item.kind in ("[]", "()", "set") for item in group.items) and group.kind in (
        "[]",
        "()",
    ):
        rows = Matrix(tuple(item.items for item in group.items if isinstance(item, Group)))
        return bool(same(matrix, rows, kinds) if matrix_is_gold else same(rows, matrix, kinds))
    if group.kind not in ("()", "[]") or min(len(matrix.rows), len(matrix.rows[0])) != 1:
        return False
    cells = [cell for row in matrix.rows for cell in row]
    return same_in_order(cells, group.items, kinds) if matrix_is_gold else same_in_order(group.items, cells, kinds)
