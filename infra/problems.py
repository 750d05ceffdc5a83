"""Problems from JSONL, Parquet, Hugging Face datasets and the demo's generator, by one path.

Rows that cannot be used are never dropped in silence: each is listed with its line number and reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import Ref, Store, get_table, put_table
from torl_core.config import ProblemSource
from torl_core.errors import DataError
from torl_core.locations import local_path
from torl_core.toy.problems import toy_problems
from torl_core.types import Problem


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not a problem. `line` counts from 1, blank lines of a JSONL file included."""

    line: int
    reason: str
    row: str
    """The row's own text, shortened."""


class _Written(str):
    """A number of a JSON file as it was written: an answer `27.10` must not become `27.1`."""


class _RowError(Exception):
    """Why a row is rejected."""


TooLong = Callable[[Sequence[Problem]], Mapping[int, str]]
"""{index: reason} of the problems whose prompts do not fit."""


@dataclass(frozen=True, slots=True)
class _Usable:
    line: int
    row: Any
    problem: Problem


def load_problems(source: ProblemSource, too_long: TooLong = lambda _: {}) -> tuple[list[Problem], list[Rejected]]:
    """Problems in the order of the file, and the rows that were rejected on the way to `limit`.

    Raises DataError when the source cannot be read, holds no problem, or (unless `skip_rejected`) has a rejected row.
    `too_long` is asked only about rows that are usable otherwise, and not before all of them were read.
    """
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    rows = _judged(source)
    while True:
        wanted = None if source.limit is None else source.limit - len(problems)
        batch, refused = _take(rows, wanted)
        rejected += refused
        _refuse_rejected(rejected, len(problems) + len(batch), source)
        reasons = too_long([one.problem for one in batch]) if batch else {}
        rejected += [Rejected(batch[i].line, why, _shortened(batch[i].row)) for i, why in sorted(reasons.items())]
        problems += [one.problem for i, one in enumerate(batch) if i not in reasons]
        if not reasons or wanted is None:  # otherwise the rows behind `limit` take the place of those that do not fit
            break
    rejected.sort(key=lambda row: row.line)
    _refuse_rejected(rejected, len(problems), source)
    _require_one(problems, rejected, source)
    return problems, rejected


def _judged(source: ProblemSource) -> Iterator[_Usable | Rejected]:
    """Each row of the source, in order."""
    lines: dict[str, int] = {}
    for line, row in _rows(source):
        try:
            problem = row if isinstance(row, Problem) else _problem(row, source)
            if problem.problem_id in lines:
                raise _RowError(f"same identifier {problem.problem_id!r} as line {lines[problem.problem_id]}")
        except _RowError as refusal:
            yield Rejected(line, str(refusal), _shortened(row))
            continue
        lines[problem.problem_id] = line
        yield _Usable(line, row, problem)


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


def contents_digest(problems: Sequence[Problem]) -> str:
    """Sixteen hex digits of what decides results: identifiers, statements and answers, in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps([problem.problem_id, problem.statement, problem.answer]).encode())
    return digest.hexdigest()[:16]


def put_problems(store: Store, problems: Sequence[Problem]) -> Ref:
    """Store problems by content, so that a campaign can name exactly what it was trained on."""
    columns = {
        name: [getattr(problem, name) for problem in problems]
        for name in ("problem_id", "statement", "answer", "source")
    }
    metadata = [json.dumps(dict(problem.metadata), sort_keys=True, ensure_ascii=False) for problem in problems]
    schema = pa.schema([(name, pa.string()) for name in (*columns, "metadata")])
    return put_table(store, "problems", pa.table(columns | {"metadata": metadata}, schema=schema), prefix="")


def get_problems(store: Store, ref: Ref) -> list[Problem]:
    rows = get_table(store, ref).to_pylist()
    return [Problem(**(row | {"metadata": json.loads(row["metadata"])})) for row in rows]


def put_rejected(store: Store, rejected: Sequence[Rejected]) -> Ref | None:
    """List rejected rows in the store as JSON lines; None when there are none."""
    if not rejected:
        return None
    data = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected).encode()
    key, digest = store.put_object("rejected", data, suffix=".jsonl")
    return Ref(key, digest, rows=len(rejected), bytes=len(data))


# --- rows of every kind of source


def _toy(source: ProblemSource) -> list[Problem]:
    problems = toy_problems(source.location.removeprefix("toy:"), source.limit)
    return [replace(problem, source=source.name) for problem in problems] if source.name else list(problems)


def _rows(source: ProblemSource) -> Iterator[tuple[int, Any]]:
    """(line, row); a row is a mapping, a problem of ours, or an exception that says why there is none."""
    location = source.location
    if location.startswith("toy:"):
        return iter(enumerate(_toy(source), start=1))
    if location.startswith("hf:"):
        return enumerate(_hugging_face(location.removeprefix("hf:"), source.split), start=1)
    if location.endswith((".jsonl", ".json", ".ndjson")):
        return _json_lines(_read(location))
    if location.endswith(".parquet"):
        return enumerate(_parquet(_read(location), location), start=1)
    raise DataError(
        f"problem source {location!r} is of no known kind",
        "A source is a .jsonl or .parquet file, hf:NAME, or toy:SPLIT",
        "Convert the file, or correct the location",
    )


def _read(location: str) -> bytes:
    try:
        if (path := local_path(location)) is not None:
            return Path(path).read_bytes()
        with fsspec.open(location, "rb") as file:
            data: bytes = file.read()
            return data
    except Exception as error:  # file systems raise what they like
        raise DataError(
            f"problem source {location!r} cannot be read ({type(error).__name__}: {error})",
            "A source is a readable file",
            "Correct the location or its permissions",
        ) from error


def _json_lines(data: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line, parse_float=_Written)
        except ValueError as error:  # bad JSON or bad UTF-8
            yield number, _RowError(f"not JSON: {error}")


def _parquet(data: bytes, location: str) -> Iterator[Any]:
    try:
        file = pq.ParquetFile(BytesIO(data))
    except pa.ArrowInvalid as error:
        raise DataError(f"{location!r} is not Parquet ({error})", "The file is damaged", "Fetch it again") from error
    for batch in file.iter_batches():
        yield from batch.to_pylist()


def _hugging_face(name: str, split: str) -> Iterator[Any]:
    """`NAME` or `NAME:CONFIG` on the hub, a local folder of data files, or one written by `save_to_disk`."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"hf:{name} needs the `datasets` package",
            "Reading the hub is an extra",
            "Install it with: pip install 'torl[hub]'",
        ) from error
    path, _, config = name.partition(":")
    saved = any((Path(path) / mark).exists() for mark in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            rows: Any = datasets.load_from_disk(path)
            rows = rows[split] if isinstance(rows, datasets.DatasetDict) else rows
        else:
            rows = datasets.load_dataset(path, config or None, split=split)
    except Exception as error:  # the library, the network and the hub raise many kinds
        raise DataError(
            f"hf:{name} with split {split!r} cannot be loaded ({type(error).__name__}: {error})",
            "The dataset must be on the hub, in the local cache, or a local folder",
            "Check the name, the split and the network; a private dataset needs HF_TOKEN",
        ) from error
    yield from rows


# --- one row


def _problem(row: Any, source: ProblemSource) -> Problem:
    if isinstance(row, _RowError):
        raise row
    if not isinstance(row, Mapping):
        raise _RowError(f"a {type(row).__name__}, not an object with columns")
    statement = _statement(_column(row, source.statement), source.statement)
    answer = _answer(_column(row, source.answer), source.answer)
    used = {source.statement, source.answer, source.problem_id}
    metadata = {name: value for name, value in row.items() if name not in used and value is not None}
    return Problem(
        problem_id=_identifier(row, source.problem_id, statement),
        statement=statement,
        answer=answer,
        source=source.name or _own_name(source.location),
        metadata=json.loads(json.dumps(_plain(metadata), default=str)),
    )


def _column(row: Mapping[str, Any], path: str) -> Any:
    """`path` as a column's own name first, then with dots reaching into structs."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise _RowError(f"no column {path!r} (columns: {', '.join(map(str, row))})")
        value = value[part]
    return value


def _statement(value: Any, name: str) -> str:
    if isinstance(value, list):
        value = _last_user_message(value, name)
    if not isinstance(value, str) or isinstance(value, _Written):
        raise _RowError(f"{name} is {_described(value)}, not text")
    if not value.strip():
        raise _RowError(f"{name} is empty")
    return value


def _last_user_message(messages: Sequence[Any], name: str) -> Any:
    users = [m for m in messages if isinstance(m, Mapping) and m.get("role") == "user"]
    if not users:
        raise _RowError(f"{name} has no user message")
    return users[-1].get("content")


def _answer(value: Any, name: str) -> str:
    """Text exactly as it stands; integers as their digits. A list of one answer is that answer."""
    if isinstance(value, list):
        if len(value) != 1:
            raise _RowError(f"{name} has {len(value)} answers, one can be graded")
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _RowError(f"{name} is {_described(value)}, not text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _RowError(f"{name} is {value}, not a finite number")
    if not str(value).strip():
        raise _RowError(f"{name} is empty")
    return str(value)


def _identifier(row: Mapping[str, Any], column: str | None, statement: str) -> str:
    try:
        value = None if column is None else _column(row, column)
    except _RowError:
        value = None
    if value is None or value == "":
        return hashlib.sha256(statement.encode()).hexdigest()[:16]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _RowError(f"{column} is {_described(value)}, not text or an integer")
    return str(value)


def _plain(value: Any) -> Any:
    """Numbers as numbers again."""
    if isinstance(value, _Written):
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _described(value: Any) -> str:
    return "missing" if value is None else f"{str(value)[:40]!r} ({type(value).__name__.lstrip('_').lower()})"


def _own_name(location: str) -> str:
    if location.startswith("hf:"):
        return PurePosixPath(location.removeprefix("hf:").partition(":")[0]).name
    return PurePosixPath(location).stem


def _shortened(row: Any) -> str:
    row = asdict(row) if isinstance(row, Problem) else row
    text = str(row) if isinstance(row, _RowError) else json.dumps(row, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:199] + "…"


def _refuse_rejected(rejected: Sequence[Rejected], usable: int, source: ProblemSource) -> None:
    if rejected and not source.skip_rejected:
        raise DataError(
            f"{source.location}: {len(rejected)} of {len(rejected) + usable} rows cannot be used ({_listed(rejected)})",
            "A problem has a statement, one answer, an identifier of its own, and a prompt that leaves room for a "
            "response",
            "Correct the rows, the column mapping or the limit that is named, or set skip_rejected to go on without "
            "these rows",
        )


def _require_one(problems: Sequence[Problem], rejected: Sequence[Rejected], source: ProblemSource) -> None:
    if not problems:
        raise DataError(
            f"{source.location} holds no problem" + (f" ({_listed(rejected)})" if rejected else ""),
            "A source has at least one usable row",
            "Check the file and the column mapping",
        )


def _listed(rejected: Sequence[Rejected]) -> str:
    first = "; ".join(f"line {row.line}: {row.reason}" for row in rejected[:5])
    return first + (f"; and {len(rejected) - 5} more" if len(rejected) > 5 else "")
