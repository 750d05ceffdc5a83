"""Rows of a file's bytes, by the kind that its name says. Numbers and texts come out exactly as they were written.

A row that cannot be read is a RowError in its place where the rows behind it can be; otherwise one DataError names the
file and the row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.problems.rows import Row, RowError, Written
from torl_core.errors import DataError

COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_SPACE = re.compile(r"[ \t\r\n]*")
_BATCH = 4096
_NESTED = "nested too deeply"


def kind_of(name: str) -> str | None:
    """The ending that says how a file is read, without that of a compression; None for what is not read."""
    name = name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return next((kind for kind in READERS if name.endswith(kind)), None)


def read_rows(data: bytes, name: str) -> Iterator[Row]:
    """The rows of a file whose name has a known kind. Raises DataError."""
    return READERS[str(kind_of(name))](_decompressed(data, name), name)


def _decompressed(data: bytes, name: str) -> bytes:
    """The content decides, not the name: files are often renamed, and clients often decompress on the way."""
    codec = next((codec for magic, codec in _MAGIC.items() if data.startswith(magic)), None)
    if codec is None:
        return data
    try:
        whole: bytes = pa.CompressedInputStream(pa.BufferReader(data), codec).read()
    except (OSError, pa.ArrowException) as error:
        raise damaged(f"{name} cannot be decompressed ({codec}: {error})") from error
    return whole


def damaged(what: str) -> DataError:
    return DataError(what, "The file is cut off or damaged", "Fetch or write it again")


def _text(data: bytes, name: str) -> str:
    """UTF-8, or UTF-16 and UTF-32 in either order of bytes, with a byte order mark or without one."""
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise DataError(
            f"{name}, line {line}: byte {error.start} is not {encoding.upper()} ({error.reason})",
            "A text file of problems is UTF-8 or UTF-16",
            "Save it as UTF-8; if only this line is wrong, correct it",
        ) from error


# --- JSON


class _Json:
    """A decoder that keeps numbers as written and notes keys that stand twice in one object."""

    def __init__(self) -> None:
        self._twice: list[str] = []
        self._decoder = json.JSONDecoder(parse_float=Written, object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            self._twice += [key for key in made if keys.count(key) > 1]
        return made

    def at(self, text: str, start: int) -> tuple[Any, int]:
        """(value, where it ends) of the value that begins at `start`; the value is a RowError where a key stands twice.

        Raises ValueError and RecursionError.
        """
        self._twice.clear()
        value, end = self._decoder.raw_decode(text, start)
        return (RowError(f"key {self._twice[0]!r} stands twice in one object") if self._twice else value), end


def _json(data: bytes, name: str) -> Iterator[Row]:
    """An array of objects, or one object a line."""
    if json.detect_encoding(data) != "utf-8":
        data = _text(data, name).encode("utf-8", "surrogatepass")
    if data.lstrip()[:1] == b"[":
        yield from _json_array(_text(data, name), name)
    else:
        _refuse_one_object(data, name)
        yield from _json_lines(data, name)


def _refuse_one_object(data: bytes, name: str) -> None:
    """Rows that are values of an object's key would otherwise be as many rejected rows as it has lines."""
    first, rest = data.lstrip().partition(b"\n")[::2]
    if not rest.strip() or not isinstance(_json_line(_Json(), first), RowError):
        return
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return
    keys = ", ".join(list(whole)[:10]) if isinstance(whole, dict) else ""
    raise DataError(
        f"{name} is one JSON value over several lines" + (f" with the keys {keys}" if keys else ""),
        "A .json file is one array of objects, or has one object a line",
        "Write its rows as an array, or one a line",
    )


def _json_lines(data: bytes, name: str) -> Iterator[Row]:
    reader = _Json()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield Row(name, number, _json_line(reader, line))


def _json_line(reader: _Json, line: bytes) -> Any:
    try:
        text = line.decode().strip()
        value, end = reader.at(text, 0)
        return value if end == len(text) else RowError(f"not JSON: something follows it, from character {end + 1} on")
    except RecursionError:
        return RowError(_NESTED)
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg}, at character {error.pos + 1}")
    except ValueError as error:  # bad UTF-8, or a number of too many digits
        return RowError(f"not JSON: {error}")


def _json_array(text: str, name: str) -> Iterator[Row]:
    reader, number = _Json(), 0
    place = _skip(text, _skip(text, 0) + 1)
    if text[place : place + 1] == "]":
        return
    while True:
        number += 1
        try:
            value, place = reader.at(text, place)
        except RecursionError:
            raise _no_json(name, number, _NESTED) from None
        except ValueError as error:
            raise _no_json(name, number, str(error)) from error
        yield Row(name, number, value)
        place = _skip(text, place)
        if text[place : place + 1] == "]":
            break
        if text[place : place + 1] != ",":
            raise _no_json(name, number, "neither a comma nor a closing bracket follows it")
        place = _skip(text, place + 1)
    if _skip(text, place + 1) != len(text):
        raise _no_json(name, number, "something follows the array")


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _no_json(name: str, number: int, why: str) -> DataError:
    return DataError(
        f"{name}, row {number} is not JSON ({why})",
        "A .json file is one array of objects, or has one object a line; behind such a row none can be found",
        "Correct the row, or write the file again",
    )


# --- CSV


def _separated(delimiter: str) -> Callable[[bytes, str], Iterator[Row]]:
    def rows(data: bytes, name: str) -> Iterator[Row]:
        csv.field_size_limit(1 << 30)  # the default refuses a solution of 128 KiB
        lines = csv.reader(StringIO(_text(data, name), newline=""), delimiter=delimiter, strict=True)
        columns: list[str] = []
        begin = 1
        try:
            for cells in lines:
                if cells and not columns:
                    _refuse_equal_columns(cells, name)
                    columns = cells
                elif cells:
                    yield Row(name, begin, _record(columns, cells))
                begin = lines.line_num + 1
        except csv.Error as error:
            raise damaged(f"{name}, line {begin} is not a row of a table ({error})") from error

    return rows


def _refuse_equal_columns(names: list[str], name: str) -> None:
    if twice := [column for column in names if names.count(column) > 1]:
        raise DataError(
            f"{name} has two columns {twice[0]!r}", "A column is named once", "Rename or remove one of them"
        )


def _record(columns: list[str], cells: list[str]) -> Any:
    if len(cells) != len(columns):
        return RowError(f"it has {len(cells)} cells, and the first row names {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


# --- Arrow


def _parquet(data: bytes, name: str) -> Iterator[Row]:
    try:
        file = pq.ParquetFile(BytesIO(data), page_checksum_verification=True)
    except Exception as error:  # of a damaged file Arrow raises many kinds
        raise damaged(f"{name!r} is not Parquet ({error})") from error
    _refuse_equal_columns(file.schema_arrow.names, name)
    first = 1
    for group in range(file.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows - 1
        try:
            for batch in file.iter_batches(_BATCH, row_groups=[group]):
                yield from arrow_rows(batch, name, first)
                first += len(batch)
        except Exception as error:
            raise damaged(f"{name}, rows {first} to {last} cannot be read ({error})") from error


def arrow_rows(batch: Any, name: str, first: int) -> Iterator[Row]:
    """The rows of a table or batch, counted from `first`. One with text that is no UTF-8 is a RowError."""
    batch = _with_short_floats(batch)
    try:
        values: list[Any] = batch.to_pylist()
    except UnicodeDecodeError:
        values = [_one(batch.slice(i, 1)) for i in range(len(batch))]
    for number, value in enumerate(values, start=first):
        yield Row(name, number, value)


def _one(row: Any) -> Any:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError as error:
        return RowError(f"a text in it is not UTF-8: {error}")


def _with_short_floats(batch: Any) -> Any:
    """A float32 0.1 as 0.1 and not as 0.10000000149, which is the same number with more digits."""
    for i, field in enumerate(batch.schema):
        if pa.types.is_float32(field.type) or pa.types.is_float16(field.type):
            column = pc.cast(pc.cast(batch.column(i), pa.string()), pa.float64())
            batch = batch.set_column(i, field.name, column)
    return batch


READERS: Mapping[str, Callable[[bytes, str], Iterator[Row]]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
}
