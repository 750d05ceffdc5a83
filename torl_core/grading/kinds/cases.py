r"""Several lines behind a brace: a system (`cases`, `aligned`), or a function in pieces.

A system is the list of its lines. The pieces of a function are values with conditions, and have no order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torl_core.grading.kinds.base import Answer, Kinds
from torl_core.grading.tokens import Tokens, closing, is_word, split, vocabulary


@dataclass(frozen=True, slots=True)
class Piecewise(Answer):
    """Values with their conditions; no condition means otherwise."""

    branches: tuple[tuple[Answer, Answer | None], ...]


_SYSTEMS = frozenset(
    f"\\begin{{{name}}}"
    for name in vocabulary("cases dcases rcases aligned align alignedat gathered gather split equation eqnarray")
)
_RELATIONS = frozenset(["=", "<", ">", "\\leq", "\\geq", "\\neq", "\\in"])


def read(tokens: Tokens, kinds: Kinds) -> Answer | None:
    body = _body(tokens)
    if body is None:
        return None
    rows = [row for row in split(body, ("\\\\",)) if row]
    cells = [[cell for cell in split(row, ("&",)) if cell] for row in rows]
    if all(_has_condition(row) for row in cells):
        return Piecewise(tuple(_branch(row, kinds) for row in cells))
    lines = [tuple(token for cell in row for token in cell) for row in cells]
    if any(len(line) > 1 and line[-1] == "," for line in lines):
        lines = [line[:-1] if line[-1] == "," else line for line in lines]
    joined = [token for line in lines for token in (*line, ",")]
    return kinds.read(tuple(joined[:-1]))


def _body(tokens: Tokens) -> Tokens | None:
    """The lines of the environment, if the whole answer is one."""
    if tokens[0] == "\\{" and tokens[1:2] == ("\\begin{array}",):
        inner = tokens[2:-1] if tokens[-1] == "\\end{array}" else ()
        return (inner[closing(inner, 0) + 1 :] if inner[0] == "{" else inner[1:]) if inner else None
    if tokens[0] == "\\begin{array}" and "=" in tokens and "&" not in tokens and tokens[-1] == "\\end{array}":
        return tokens[closing(tokens, 1) + 1 : -1] if tokens[1] == "{" else tokens[2:-1]
    if tokens[0] not in _SYSTEMS or tokens.count(tokens[0]) > 1 or tokens[-1] != tokens[0].replace("\\begin", "\\end"):
        return None
    return tokens[1:-1]


def _has_condition(row: list[Tokens]) -> bool:
    """A value and a condition in two cells, or in one with `if` between them."""
    if len(row) == 2:
        value, condition = row
        return value[-1] not in _RELATIONS and condition[0] not in _RELATIONS and "=" not in value
    return len(row) == 1 and any(token in ("~if", "~otherwise", "~for", "~when") for token in row[0][1:])


def _branch(row: list[Tokens], kinds: Kinds) -> tuple[Answer, Answer | None]:
    if len(row) == 1:
        cut = next(i for i, token in enumerate(row[0]) if i and token in ("~if", "~otherwise", "~for", "~when"))
        row = [row[0][:cut], row[0][cut:]]
    value, condition = row
    value = value[:-1] if value[-1] in (",", ";", ":") else value
    rest = tuple(token for token in condition if token not in ("~if", "~for", "~when", "~where"))
    rest = rest[:-1] if rest[-1:] in ((",",), (".",), (";",)) else rest
    otherwise = all(is_word(token) for token in rest)
    return kinds.read(value), None if otherwise else kinds.read(rest)


def same(gold: Answer, answer: Answer, kinds: Kinds) -> bool | None:
    if not (isinstance(gold, Piecewise) and isinstance(answer, Piecewise)):
        return False if isinstance(gold, Piecewise) or isinstance(answer, Piecewise) else None
    if len(gold.branches) != len(answer.branches):
        return False
    left = list(answer.branches)
    for branch in sorted(gold.branches, key=lambda pair: pair[1] is None):
        match = next((i for i, other in enumerate(left) if _same_branch(branch, other, kinds)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_branch(gold: tuple[Answer, Answer | None], answer: tuple[Answer, Answer | None], kinds: Kinds) -> bool:
    """`otherwise` may stand for one written condition: the others decide which."""
    if not kinds.same(gold[0], answer[0]):
        return False
    return gold[1] is None or answer[1] is None or kinds.same(gold[1], answer[1])
