"""SQL that a user writes, over one store: it reads this store alone and writes nothing."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import duckdb
import pyarrow as pa

from infra.analytics.database import VIEWS, ask, quoted
from infra.storage import Store
from infra.storage.damage import OnDamage, refuse
from torl_core.errors import DataError

Form = Literal["table", "csv", "json"]


def query(store: Store, sql: str, on_damage: OnDamage = refuse) -> pa.Table:
    """The result of one statement over the views with DuckDB's types. Raises as `answer`."""
    return _run(store, sql, lambda _: "*", on_damage, allow_files=False)


def answer(store: Store, sql: str, form: Form, on_damage: OnDamage = refuse, *, allow_files: bool = False) -> pa.Table:
    """The result of one statement over the views with values that can be written as `form`; `on_damage` as in `ask`.

    For `table` every column is text, for `json` there is one column with one object a row. A column whose name an
    earlier one has gets a number: `a, a` becomes `a, a_1`.

    Raises DataError for SQL that is not one statement that reads, that does not run, or that reads other files than the
    store's without `allow_files`; StoreError as `ask`.
    """
    return _run(store, sql, lambda relation: _columns(relation, form), on_damage, allow_files=allow_files)


def _run(
    store: Store,
    sql: str,
    columns: Callable[[duckdb.DuckDBPyRelation], str],
    on_damage: OnDamage,
    *,
    allow_files: bool,
) -> pa.Table:
    statement = read_only(sql)

    def question(connection: duckdb.DuckDBPyConnection) -> pa.Table:
        confine(connection, store, allow_files=allow_files)

        def work() -> pa.Table:
            relation = connection.sql(statement)
            return relation.project(columns(relation)).to_arrow_table()

        return _interruptibly(connection, work)

    try:
        return ask(store, question, on_damage)
    except duckdb.PermissionException as error:
        raise DataError(
            f"the query may not do this: {_text(error)}",
            "A query reads the files of its store alone",
            "Allow it to read others with --allow-files",
        ) from error
    except duckdb.Error as error:
        raise _bad_sql(error, f"The views are {', '.join(VIEWS)}; DESCRIBE one to see its columns") from error


def _interruptibly(connection: duckdb.DuckDBPyConnection, work: Callable[[], pa.Table]) -> pa.Table:
    """Have another thread do the work, so that Ctrl-C ends it. DuckDB looks for signals between its tasks alone."""
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(work).result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def read_only(sql: str) -> str:
    """`sql` as a subquery: there DuckDB takes no statement that writes, COPY inside of WITH included.

    Raises DataError when it is not one statement that reads.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _bad_sql(error, "Correct the SQL") from error
    if len(statements) == 1 and statements[0].type in _READ:
        text = _without_semicolon(statements[0].query)
        if explain := _EXPLAIN.match(text):
            return f"{explain[0]} {read_only(text[explain.end() :])}"
        return f"FROM ({text}\n)"
    raise DataError(
        f"{sql.strip()[:80]!r} is not one statement that reads",
        "A store is read-only: one SELECT, FROM, WITH, PIVOT, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN statement at a time",
        "Ask one question; to keep its answer, redirect the output",
    )


_READ = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""MULTI is a PIVOT that has to find its columns first."""
_EXPLAIN = re.compile(r"EXPLAIN(\s+ANALYZE\b|\s*\(\s*(ANALYZE|FORMAT)\b[^)]*\))?", re.IGNORECASE)


def _without_semicolon(text: str) -> str:
    """DuckDB's text of a statement begins with its first word and may end with semicolons and comments."""
    encoded = text.encode()  # offsets of tokens count bytes
    for start, kind in reversed(duckdb.tokenize(text)):
        if kind != duckdb.token_type.comment and encoded[start : start + 1] != b";":
            break
        encoded = encoded[:start]
    return encoded.decode()


def confine(connection: duckdb.DuckDBPyConnection, store: Store, *, allow_files: bool) -> None:
    """Take from the connection what a query over a store needs not: other files, extensions, Python's variables."""
    for setting in ("python_enable_replacements", "autoinstall_known_extensions"):
        connection.execute(f"SET {setting} = false")
    if not allow_files:
        folders = {store.uri, glob.escape(store.uri)}  # files are first looked up as patterns, then opened as they are
        connection.execute(f"SET allowed_directories = [{', '.join(map(quoted, sorted(folders)))}]")
        connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _bad_sql(error: duckdb.Error, remedy: str) -> DataError:
    return DataError(f"the query does not run: {_text(error)}", "It is written in DuckDB's SQL", remedy)


def _text(error: duckdb.Error) -> str:
    return str(error).strip()


# --- how values are written

_NESTED = {"list", "array", "struct", "map", "union"}
_ARROW_WRITES = {
    *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
    *("float", "double", "decimal", "varchar", "date", "timestamp", "timestamp with time zone"),
}
"""Types, by DuckDB's name, that Arrow writes as CSV. DuckDB itself makes text of the others."""


def _columns(relation: duckdb.DuckDBPyRelation, form: Form) -> str:
    """What to select from `relation` so that `form` can be written without knowing a type."""
    named = [(name, _identifier(name), kind.id) for name, kind in zip(relation.columns, relation.types, strict=True)]
    if form == "json":
        pairs = ", ".join(f"{quoted(name)}, {value}" for name, value, _ in named)
        return f"{_json(f'json_object({pairs})')} AS object"
    as_text = _for_people if form == "table" else _for_csv
    return ", ".join(f"{as_text(value, kind)} AS {value}" for _, value, kind in named)


def _for_people(value: str, kind: str) -> str:
    return f"format('{{:.4g}}', {value})" if kind in ("float", "double") else f"{value}::VARCHAR"


def _for_csv(value: str, kind: str) -> str:
    if kind in _NESTED:
        return _json(f"to_json({value})")
    return value if kind in _ARROW_WRITES else f"{value}::VARCHAR"


_STRING_OR_NUMBER = r"""'("(?:[^"\\]|\\.)*")|-?(?:NaN|Infinity)'"""


def _json(expression: str) -> str:
    """DuckDB writes NaN and Infinity, which JSON does not have, as they are; here they are null.

    A mark, which no JSON holds unescaped, goes behind each string and in the place of each such number. The marks
    behind strings are then removed, and those that are left are the numbers.
    """
    marked = rf"regexp_replace({expression}::VARCHAR, {_STRING_OR_NUMBER}, '\1' || chr(1), 'g')"
    return f"""replace(replace({marked}, '"' || chr(1), '"'), chr(1), 'null')"""


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
