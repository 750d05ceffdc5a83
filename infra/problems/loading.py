"""All problems of a campaign or a benchmark, and the rows that are none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any

from infra.problems.columns import Columns, choose, problem_of
from infra.problems.hub import hub_rows
from infra.problems.location import files
from infra.problems.reading import COMPRESSIONS, READERS, read_rows
from infra.problems.rows import Rejected, Row, RowError
from torl_core.config import ProblemsConfig, ProblemSource
from torl_core.errors import DataError
from torl_core.toy.problems import toy_problems
from torl_core.types import Problem

_LOOKED_AT = 1000
"""Rows at the head of a source by which its columns are chosen."""

TooLong = Callable[[Sequence[Problem]], Mapping[int, str]]
"""{index: reason} of the problems whose prompts do not fit."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The problems in the order of sources, files and rows; the rows that were rejected; what was taken by source."""

    config: ProblemsConfig
    problems: Sequence[Problem]
    rejected: Sequence[Rejected]
    taken: Mapping[str, Columns]
    """By location. Our own problems have no columns."""

    @property
    def digest(self) -> str:
        return contents_digest(self.problems)


@dataclass(frozen=True, slots=True)
class _Usable:
    row: Row
    problem: Problem


def load_problems(config: ProblemsConfig, too_long: TooLong = lambda _: {}) -> Loaded:
    """Raises DataError when a source cannot be read, holds no problem, or (unless `skip_rejected`) has a rejected row.

    `too_long` is asked only about rows that are usable otherwise, and not before all of a source's were read.
    """
    sources, seen = config.each, _Seen()
    labels = [label_of(source) for source in sources]
    _refuse_equal(labels)
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    taken: dict[str, Columns] = {}
    for source, label in zip(sources, labels, strict=True):
        columns, rows = _read(source)
        taken |= {source.location: columns} if columns else {}
        made = ((row, _made(row, columns, label)) for row in rows)
        more, refused = _load(_judged(made, label, seen, qualified=len(sources) > 1), source, label, too_long)
        problems += more
        rejected += refused
    return Loaded(config, problems, rejected, taken)


def contents_digest(problems: Sequence[Problem]) -> str:
    """Sixteen hex digits of what decides results: identifiers, statements and answers, in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps([problem.problem_id, problem.statement, problem.answer]).encode())
    return digest.hexdigest()[:16]


def label_of(source: ProblemSource) -> str:
    """What the source is called where its rows do not say."""
    if source.name is not None:
        return source.name
    if source.location.startswith("hf:"):
        return PurePosixPath(source.location.removeprefix("hf:").partition(":")[0]).name
    common, *pattern = re.split(r"[*?\[]", source.location, maxsplit=1)  # what the names of all files begin with
    name = PurePosixPath(common).name
    for ending in (*COMPRESSIONS, *READERS):
        name = name.removesuffix(ending)
    return (name.rstrip("-_.") if pattern else name) or "problems"


# --- rows of a source


def _read(source: ProblemSource) -> tuple[Columns | None, Iterator[Row]]:
    """The columns to take, and the rows. Problems of our own need no columns."""
    if source.location.startswith("toy:"):
        made = toy_problems(source.location.removeprefix("toy:"), source.limit)
        return None, (Row(source.location, i, problem) for i, problem in enumerate(made, start=1))
    rows = _rows(source)
    head = list(islice(rows, _LOOKED_AT))
    return choose([row.value for row in head], source), chain(head, rows)


def _rows(source: ProblemSource) -> Iterator[Row]:
    if source.location.startswith("hf:"):
        yield from hub_rows(source.location.removeprefix("hf:"), source.split)
        return
    for file in files(source.location):
        yield from read_rows(file.read(), file.name)


def _made(row: Row, columns: Columns | None, label: str) -> Problem | RowError:
    try:
        return replace(row.value, source=label) if columns is None else problem_of(row.value, columns, label)
    except RowError as why:
        return why


@dataclass(frozen=True, slots=True)
class _Seen:
    """The rows that became problems, by identifier and, where there are several sources, by statement."""

    ids: dict[str, tuple[str, Row]] = field(default_factory=dict)
    """The statement and the row of each identifier."""
    statements: dict[str, tuple[str, Row]] = field(default_factory=dict)


def _judged(
    rows: Iterator[tuple[Row, Problem | RowError]], label: str, seen: _Seen, qualified: bool
) -> Iterator[_Usable | Rejected]:
    """Each row, in order. `qualified`: the source's name goes before identifiers, since each source counts from 1."""
    for row, made in rows:
        if isinstance(made, RowError):
            yield _rejected(row, str(made), label)
            continue
        problem = replace(made, problem_id=f"{label}/{made.problem_id}") if qualified else made
        if why := _repeats(problem, label, seen):
            yield _rejected(row, why, label)
            continue
        seen.ids[problem.problem_id] = (problem.statement, row)
        if qualified:
            seen.statements.setdefault(problem.statement, (label, row))
        yield _Usable(row, problem)


def _repeats(problem: Problem, label: str, seen: _Seen) -> str | None:
    if known := seen.ids.get(problem.problem_id):
        statement, first = known
        if statement == problem.statement:
            return f"same statement as {first.file}:{first.line}"
        return f"same identifier {problem.problem_id!r} as {first.file}:{first.line}"
    other, elsewhere = seen.statements.get(problem.statement, (label, None))
    return f"same statement as {elsewhere.file}:{elsewhere.line}" if elsewhere and other != label else None


def _load(
    rows: Iterator[_Usable | Rejected], source: ProblemSource, label: str, too_long: TooLong
) -> tuple[list[Problem], list[Rejected]]:
    """Problems in the order of the rows, and the rows that were rejected on the way to `limit`."""
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    while True:
        wanted = None if source.limit is None else source.limit - len(problems)
        batch, refused = _take(rows, wanted)
        rejected += refused
        _refuse_rejected(rejected, len(problems) + len(batch), source)
        reasons = too_long([one.problem for one in batch]) if batch else {}
        rejected += [_rejected(batch[i].row, why, label) for i, why in reasons.items()]
        problems += [one.problem for i, one in enumerate(batch) if i not in reasons]
        if not reasons or wanted is None:  # otherwise the rows behind `limit` take the place of those that do not fit
            break
    rejected.sort(key=lambda row: (row.file, row.line))
    _refuse_rejected(rejected, len(problems), source)
    _require_one(problems, rejected, source)
    return problems, rejected


def _take(rows: Iterator[_Usable | Rejected], wanted: int | None) -> tuple[list[_Usable], list[Rejected]]:
    """The next rows, up to `wanted` usable ones, and those that were rejected on the way."""
    usable: list[_Usable] = []
    rejected: list[Rejected] = []
    while wanted is None or len(usable) < wanted:
        row = next(rows, None)
        if row is None:
            break
        if isinstance(row, _Usable):
            usable.append(row)
        else:
            rejected.append(row)
    return usable, rejected


# --- refusals


def _rejected(row: Row, reason: str, label: str) -> Rejected:
    value = asdict(row.value) if isinstance(row.value, Problem) else row.value
    text = str(value) if isinstance(value, RowError) else _shown(value)
    return Rejected(label, row.file, row.line, reason, text if len(text) <= 200 else text[:199] + "…")


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _refuse_equal(labels: Sequence[str]) -> None:
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise DataError(
            f"two sources are called {twice[0]!r}",
            "Metrics, weights and identifiers are by the name of a source",
            "Give one of them another `name`",
        )


def _refuse_rejected(rejected: Sequence[Rejected], usable: int, source: ProblemSource) -> None:
    if rejected and not source.skip_rejected:
        raise DataError(
            f"{source.location}: {len(rejected)} of {len(rejected) + usable} rows cannot be used "
            f"({_listed(rejected, source)})",
            "A problem has a statement, an answer that can be graded, an identifier of its own, and a prompt that "
            "leaves room for a response",
            "Correct the rows, the column mapping or the limit that is named, or set skip_rejected to go on without "
            "these rows",
        )


def _require_one(problems: Sequence[Problem], rejected: Sequence[Rejected], source: ProblemSource) -> None:
    if not problems:
        raise DataError(
            f"{source.location} holds no problem" + (f" ({_listed(rejected, source)})" if rejected else ""),
            "A source has at least one usable row",
            "Check the file and the column mapping",
        )


def _listed(rejected: Sequence[Rejected], source: ProblemSource) -> str:
    """The first few. The location is named already: a row's file is only where there are several."""
    places = (f"line {row.line}" if row.file == source.location else f"{row.file}:{row.line}" for row in rejected[:5])
    first = "; ".join(f"{place}: {row.reason}" for place, row in zip(places, rejected, strict=False))
    return first + (f"; and {len(rejected) - 5} more" if len(rejected) > 5 else "")
