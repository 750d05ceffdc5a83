"""A problem of a row: which columns are taken, and what is in them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from infra.problems.gold import gold_of, rule_of
from infra.problems.rows import RowError, Written
from torl_core.config import ProblemSource
from torl_core.errors import DataError
from torl_core.types import Problem

STATEMENTS = ("problem", "question", "prompt", "statement", "query")
ANSWERS = (
    "answer", "final_answer", "reward_model.ground_truth", "ground_truth", "expected_answer", "gold", "target",
    "solution",
)  # fmt: skip
ORIGINS = ("data_source", "source")
_MOST_ORIGINS = 32
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are taken of a source, and the rule by which its golds are read."""

    statement: str
    answer: str
    rule: str
    problem_id: str | None
    origin: str | None
    left: tuple[str, ...] = ()
    """Columns that could have been the statement or the answer too."""

    def __str__(self) -> str:
        taken = [f"statement from {self.statement}", f"answer from {self.answer} ({self.rule})"]
        taken += [f"id from {self.problem_id}" if self.problem_id else "id from the statement's digest"]
        taken += [f"source from {self.origin}"] if self.origin else []
        return ", ".join(taken) + (f"; not taken: {', '.join(self.left)}" if self.left else "")


def choose(rows: Sequence[Any], source: ProblemSource) -> Columns:
    """The columns that `source` names, and otherwise the first known one in which one of the first `rows` has a value.

    Raises DataError where no column of a known name is there.
    """
    mappings = [row for row in rows if isinstance(row, Mapping)]
    statement, others = _known(mappings, source.statement, STATEMENTS, "statement", source)
    answer, further = _known(mappings, source.answer, ANSWERS, "answer", source)
    ids = source.problem_id if any(_has(row, source.problem_id) for row in mappings) else None
    texts = [value for row in mappings if isinstance(value := _found(row, answer), str)]
    return Columns(
        statement=statement,
        answer=answer,
        rule=source.answer_format or rule_of(texts),
        problem_id=ids,
        origin=_origin(mappings, source),
        left=(*others, *further),
    )


def _known(
    rows: Sequence[Mapping[str, Any]], named: str | None, known: Sequence[str], key: str, source: ProblemSource
) -> tuple[str, tuple[str, ...]]:
    """(the column, further candidates)"""
    if named is not None:
        return named, ()
    present = [path for name in known if (path := _spelled(rows, name))]
    present = present or [name for name in known if any(_at(row, name) is not _MISSING for row in rows)][:1]
    if rows and not present:
        columns = list(dict.fromkeys(str(column) for row in rows for column in row))
        raise DataError(
            f"{source.location} has no column with a known name for the {key} (columns: {_some(columns)})",
            f"Without `{key}` in the config, it is the first there is of {', '.join(known)}",
            f"Name the column as `{key}`, beside the location",
        )
    return (present[0], tuple(present[1:])) if present else (known[0], ())


def _spelled(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """`name` as the rows spell it (as it is, or with other capitals) if one of them has a value there."""
    if any(_has(row, name) for row in rows):
        return name
    capitals = {str(column) for row in rows for column in row if str(column).lower() == name}
    return next((column for column in sorted(capitals) if any(_has(row, column) for row in rows)), None)


def _origin(rows: Sequence[Mapping[str, Any]], source: ProblemSource) -> str | None:
    if source.name is not None or source.origin is not None:
        return None if source.name is not None else source.origin
    for name in ORIGINS:
        values = [_found(row, name) for row in rows]
        if any(values) and all(value is None or isinstance(value, str) for value in values):
            return name if len(set(values)) <= _MOST_ORIGINS else None
    return None


_MISSING = object()


def _found(row: Mapping[str, Any], path: str | None) -> Any:
    """`path` as a column's own name first, then with dots reaching into structs; None where nothing is there."""
    value = None if path is None else _at(row, path)
    return None if value is _MISSING else value


def _at(row: Mapping[str, Any], path: str) -> Any:
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _has(row: Mapping[str, Any], path: str | None) -> bool:
    return _found(row, path) not in (None, "", [])


# --- one row


def problem_of(row: Any, columns: Columns, label: str) -> Problem:
    """`label` is the source of a row that names none. Raises RowError."""
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        raise RowError(f"a {type(row).__name__}, not an object with columns")
    try:
        return _problem(row, columns, label)
    except RecursionError:
        raise RowError("nested too deeply") from None


def _problem(row: Mapping[str, Any], columns: Columns, label: str) -> Problem:
    statement = _statement(_column(row, columns.statement), columns.statement)
    answer = gold_of(_answer(_column(row, columns.answer), columns.answer), columns.rule)
    used = {columns.statement, columns.answer, columns.problem_id}
    others = {name: value for name, value in row.items() if name not in used and value is not None}
    metadata = json.dumps(_plain(others), default=str, ensure_ascii=False)
    problem = Problem(
        problem_id=_identifier(_found(row, columns.problem_id), columns.problem_id, statement),
        statement=statement,
        answer=answer,
        source=_source(_found(row, columns.origin), columns.origin) or label,
        metadata=json.loads(metadata),
    )
    _refuse_surrogates(problem, metadata)
    return problem


def _column(row: Mapping[str, Any], path: str) -> Any:
    value = _at(row, path)
    if value is _MISSING:
        raise RowError(f"no column {path!r} (columns: {_some(list(map(str, row)))})")
    return value


def _statement(value: Any, name: str) -> str:
    if isinstance(value, list):
        value = _last_user_message(value, name)
    if not isinstance(value, str) or isinstance(value, Written):
        raise RowError(f"{name} is {_described(value)}, not text")
    if not value.strip():
        raise RowError(f"{name} is empty")
    return value


def _last_user_message(messages: Sequence[Any], name: str) -> Any:
    users = [m for m in messages if isinstance(m, Mapping) and m.get("role") == "user"]
    if not users:
        raise RowError(f"{name} has no user message")
    return users[-1].get("content")


def _answer(value: Any, name: str) -> str:
    """Text as it stands, numbers exactly. A list of one is that one; one of several means all of them, in any order."""
    if isinstance(value, list):
        if not value:
            raise RowError(f"{name} is an empty list")
        return ", ".join(_scalar(one, name) for one in value)
    return _scalar(value, name)


def _scalar(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise RowError(f"{name} is {_described(value)}, not text or a number")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise RowError(f"{name} is {value}, not a finite number")
    text = _number(value) if isinstance(value, float | Decimal) else str(value)
    if not text.strip():
        raise RowError(f"{name} is empty")
    return text


def _number(value: float | Decimal) -> str:
    """All digits and no exponent; 3.0 is 3, since tables make floats of whole numbers where one of them is missing."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(int(value)) if value.is_integer() else f"{Decimal(repr(value)):f}"


def _identifier(value: Any, column: str | None, statement: str) -> str:
    if value is None or value == "":
        return hashlib.sha256(statement.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if isinstance(value, float) and value.is_integer():  # a table made a float of it, because one is missing
        return _number(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"{column} is {_described(value)}, not text or an integer")
    return str(value)


def _source(value: Any, column: str | None) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RowError(f"{column} is {_described(value)}, not text")
    return value


def _refuse_surrogates(problem: Problem, metadata: str) -> None:
    """Half of a character that JSON writes in two halves: neither UTF-8 nor a tokenizer has it."""
    parts = (problem.statement, problem.answer, problem.problem_id, problem.source, metadata)
    for name, text in zip(("statement", "answer", "id", "source", "other text"), parts, strict=True):
        if match := _SURROGATE.search(text):
            raise RowError(f"its {name} has a lone surrogate, \\u{ord(match[0]):04x}, at character {match.start() + 1}")


def _plain(value: Any) -> Any:
    """Numbers as numbers again."""
    if isinstance(value, Written):
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _described(value: Any) -> str:
    return "missing" if value is None else f"{str(value)[:40]!r} ({type(value).__name__.lstrip('_').lower()})"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
