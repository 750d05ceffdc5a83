"""What a user's SQL may do, and how its answer is written."""

import csv
import io
import json
import tempfile
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from infra.analytics import answer, ask, query
from infra.analytics.sql import confine
from infra.storage import Store
from torl_core.errors import DataError

EXOTIC = """
SELECT 1 AS a, 'second' AS a, 'third' AS A, INTERVAL 3 DAY AS i, '101'::BIT AS b, union_value(x := 1) AS u,
  'nan'::DOUBLE AS n, -'inf'::FLOAT AS f, [1.5, 'nan'::DOUBLE] AS l, MAP {'NaN': 'inf'::DOUBLE} AS m,
  12345678901234567890.12::DECIMAL(30, 2) AS d, 170141183460469231731687303715884105727::HUGEINT AS h,
  'say "NaN", \\ [Infinity,NaN]' AS t, NULL AS nothing, '' AS empty
"""


def as_csv(store, sql):
    sink = io.BytesIO()
    pa_csv.write_csv(answer(store, sql, "csv"), sink, pa_csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue().decode()


def as_json(store, sql):
    def refuse(number):
        raise AssertionError(f"{number} is no JSON")

    rows = answer(store, sql, "json").column(0).to_pylist()
    return [json.loads(row, parse_constant=refuse, parse_float=str) for row in rows]


def as_texts(store, sql):
    return list(zip(*(column.to_pylist() for column in answer(store, sql, "table").columns), strict=True))


def test_equal_names_are_numbered_alike_in_every_form(store):
    sql = "SELECT 1 AS a, 2 AS a, 3 AS b"
    names = ["a", "a_1", "b"]
    assert query(store, sql).column_names == names
    assert as_csv(store, sql) == '"a","a_1","b"\n1,2,3\n'
    assert as_json(store, sql) == [{"a": 1, "a_1": 2, "b": 3}]
    assert answer(store, sql, "table").column_names == names
    assert as_texts(store, sql) == [("1", "2", "3")]


def test_every_type_is_written_in_every_form(store):
    (row,) = csv.DictReader(io.StringIO(as_csv(store, EXOTIC)))
    assert row == {
        "a": "1", "a_1": "second", "A_2": "third", "i": "3 days", "b": "101", "u": '{"x":1}', "n": "nan", "f": "-inf",
        "l": "[1.5,null]", "m": '{"NaN":null}', "d": "12345678901234567890.12",
        "h": "170141183460469231731687303715884105727", "t": 'say "NaN", \\ [Infinity,NaN]',
        "nothing": "", "empty": "",
    }  # fmt: skip
    assert as_json(store, EXOTIC) == [
        {
            "a": 1, "a_1": "second", "A_2": "third", "i": "3 days", "b": "101", "u": {"x": 1}, "n": None, "f": None,
            "l": ["1.5", None], "m": {"NaN": None}, "d": "12345678901234567890.12",
            "h": 170141183460469231731687303715884105727, "t": 'say "NaN", \\ [Infinity,NaN]', "nothing": None,
            "empty": "",
        }
    ]  # fmt: skip
    (texts,) = as_texts(store, EXOTIC)
    assert texts[:9] == ("1", "second", "third", "3 days", "101", "1", "nan", "-inf", "[1.5, nan]")


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_the_extremes_of_all_of_duckdbs_types(store, form):
    found = answer(store, "FROM test_all_types()", form)
    assert found.num_rows == 3
    if form == "csv":
        pa_csv.write_csv(found, pa.BufferOutputStream())


def test_csv_tells_null_from_empty_text(small):
    text = as_csv(small, "SELECT trajectory_id, NULL::VARCHAR AS nothing, '' AS empty FROM trajectories LIMIT 1")
    assert text.splitlines()[1].endswith(',,""')
    assert pandas.read_csv(io.StringIO(text))["trajectory_id"].tolist() == ["tool-1-a"]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("-- a comment\nSELECT 1 -- and one that ends it", [("1",)]),
        ("/* é; */ SELECT ';' ; -- b;\n ;", [(";",)]),
        ("PIVOT (SELECT step, 1 AS one FROM steps) ON step USING sum(one)", [("1", "1")]),
        ("PIVOT (SELECT step, 1 AS one FROM steps) ON step IN (2) USING sum(one)", [("1",)]),
        ("WITH few AS (SELECT step FROM steps) SELECT max(step) FROM few", [("2",)]),
        ("VALUES (1), (2)", [("1",), ("2",)]),
        ("SELECT step FROM trajectories ORDER BY step DESC LIMIT 1", [("2",)]),
        ("SELECT 0.000123456, 1e300::DOUBLE, 0.123456::DOUBLE", [("0.000123456", "1e+300", "0.1235")]),
    ],
)
def test_statements_that_read(small, sql, rows):
    assert as_texts(small, sql) == rows


@pytest.mark.parametrize(
    "explain",
    ["EXPLAIN", "explain ANALYZE", "EXPLAIN (FORMAT json)", "-- why\nEXPLAIN (ANALYZE, FORMAT json)", "EXPLAIN -- x\n"],
)
@pytest.mark.parametrize("asked", ["(SELECT step FROM steps);", "PIVOT steps ON step USING count(*)"])
def test_explain(small, explain, asked):
    ((kind, plan),) = as_texts(small, f"{explain} {asked}")
    assert kind == ("analyzed_plan" if "ANALYZE" in explain else "physical_plan")
    assert len(plan) > 30


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{out}'",
        "WITH x AS (COPY (SELECT 1) TO '{out}') FROM x",
        "SELECT (WITH x AS (COPY (SELECT 1) TO '{out}') SELECT count(*) FROM x)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
        "EXPLAIN /* c */ ANALYZE COPY (SELECT 1) TO '{out}'",
        "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{out}') FROM x",
        "SELECT 1); COPY (SELECT 1) TO '{out}'; FROM (SELECT 1",
        "FROM query('COPY (SELECT 1) TO ''{out}''')",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}'",
        "ATTACH ':memory:' AS other",
        "CREATE TABLE t (a INT)",
        "DROP VIEW steps",
        "DELETE FROM raw.steps",
        "WITH x AS (DELETE FROM raw.steps RETURNING *) FROM x",
        "SET threads = 1",
        "RESET lock_configuration",
        "PRAGMA enable_profiling",
        "CALL enable_logging(storage := 'file', storage_config := {{'path': '{out}'}})",
        "FROM enable_logging(storage := 'file', storage_config := {{'path': '{out}'}})",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXECUTE x",
    ],
)
@pytest.mark.parametrize(("inside", "allow_files"), [(True, False), (False, True)])
def test_nothing_is_written_or_changed(small, tmp_path, sql, allow_files, inside):
    out = Path(small.uri) / "new" if inside else tmp_path / "new"
    before = {key: small.read(key) for key in small.list("")}
    with pytest.raises(DataError):
        answer(small, sql.format(out=out), "csv", allow_files=allow_files)
    assert not out.exists()
    assert {key: small.read(key) for key in small.list("")} == before


READS = [
    "FROM read_text('{file}')",
    "FROM read_blob('{file}')",
    "FROM read_csv('{file}')",
    "FROM read_json('{file}')",
    "FROM read_ndjson_objects('{file}')",
    "FROM '{file}'",
    "FROM sniff_csv('{file}')",
    "FROM glob('{folder}/*')",
    "FROM query('FROM read_text(''{file}'')')",
    "FROM query_table(['{file}'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{file}'')'))",
    "FROM read_text('file://{file}')",
    "FROM read_text('{store}/../{name}')",
    "FROM read_text('{store}2/secret.csv')",
]


@pytest.fixture
def secret(tmp_path):
    """A file beside the store, and one in a folder whose name begins as the store's does."""
    for place in (tmp_path / "secret.csv", tmp_path / "store2" / "secret.csv"):
        place.parent.mkdir(exist_ok=True)
        place.write_text('{"word": "swordfish"}\n' * 2)
    return tmp_path / "secret.csv"


@pytest.mark.parametrize("sql", READS)
def test_nothing_outside_the_store_is_read(small, secret, sql):
    asked = sql.format(file=secret, folder=secret.parent, name=secret.name, store=small.uri)
    with pytest.raises(DataError, match=r"may not do this[\s\S]*--allow-files"):
        answer(small, asked, "csv")


@pytest.mark.parametrize("sql", READS[:8])
def test_other_files_are_read_where_that_is_allowed(small, secret, sql):
    asked = sql.format(file=secret, folder=secret.parent, name=secret.name, store=small.uri)
    found = answer(small, asked, "json", allow_files=True).column(0).to_pylist()
    assert any("word" in row or "secret.csv" in row for row in found)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('https://127.0.0.1:9/x')",
        "FROM read_parquet('s3://bucket/x.parquet')",
        "FROM read_text('memory://other/x')",
        "FROM duckdb_secrets()",
        "FROM read_text('/dev/stdin')",
        "FROM glob('/etc/*')",
        "FROM read_csv('~/.profile')",
    ],
)
def test_no_address_is_asked_and_no_extension_is_fetched(small, sql, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match="may not do this"):
        answer(small, sql, "csv")
    assert not (tmp_path / ".duckdb").exists()


def test_variables_of_python_are_no_tables(small):
    def question(connection):
        planted = pandas.DataFrame({"a": [1]})
        assert connection.sql("FROM planted").fetchall() == [(1,)]
        confine(connection, small, allow_files=True)
        with pytest.raises(duckdb.CatalogException, match="planted does not exist"):
            connection.sql("FROM planted")
        assert len(planted) == 1

    ask(small, question)


def test_views_and_files_of_the_store_are_read(tmp_path, small):
    odd = Store.open(tmp_path / "it's a [store]*?")
    memory = Store.open("memory://confined")
    for key in small.list(""):
        odd.write(key, small.read(key))
        memory.write(key, small.read(key))
    for store in (small, odd, memory):
        assert as_texts(store, "SELECT count(*) FROM trajectories") == [("5",)]
    (manifest,) = [key for key in small.list("campaigns") if key.endswith("000001/manifest.json")]
    assert as_texts(small, f"SELECT step FROM read_json('{small.uri_of(manifest)}')") == [("1",)]


def test_what_does_not_fit_memory_goes_into_a_folder_of_its_own_that_is_removed(small, tmp_path, monkeypatch):
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    for folder in (work / ".tmp", temporary):
        folder.mkdir(parents=True)
    (work / ".tmp" / "notes").write_text("mine")
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def question(connection):
        connection.execute("SET memory_limit = '50MB'; SET threads = 1")
        confine(connection, small, allow_files=False)
        connection.execute("CREATE TABLE t AS SELECT repeat('x', 100) || hash(i) AS s FROM range(800000) t(i)")
        (spilled,) = temporary.iterdir()
        assert sum(file.stat().st_size for file in spilled.iterdir()) > 10 << 20
        with pytest.raises(duckdb.PermissionException):
            connection.sql("FROM read_text('.tmp/notes')")

    ask(small, question)
    assert list(temporary.iterdir()) == []
    assert [file.name for file in (work / ".tmp").iterdir()] == ["notes"]
