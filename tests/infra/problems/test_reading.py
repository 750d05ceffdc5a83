"""Every kind of file gives the same rows, exactly as they were written; a damaged one is one error or one row."""

import bz2
import gzip
import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.infra.problems.kit import jsonl, load, refused
from torl_core.errors import DataError

ROWS = [
    {"id": "a", "problem": 'Is "1, 2" a list?\nSay so.', "answer": "0.10"},
    {"id": "b", "problem": "Größe in ℝ²?", "answer": "007"},
]
ARRAY = json.dumps(ROWS, indent=2)
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'id,problem,answer\na,"Is ""1, 2"" a list?\nSay so.",0.10\n\nb,Größe in ℝ²?,007\n'
TABS = TABLE.replace(",", "\t").replace("1\t 2", "1, 2")


def _zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


FILES = {
    "x.jsonl": LINES.encode(),
    "x.json": LINES.encode(),
    "array.json": ARRAY.encode(),
    "array.jsonl": ARRAY.encode(),
    "x.csv": TABLE.encode(),
    "dos.csv": TABLE.replace("\n\nb", "\r\n\r\nb").replace("answer\n", "answer\r\n").encode(),
    "x.tsv": TABS.encode(),
    "X.JSONL": LINES.encode(),
    "x.jsonl.gz": gzip.compress(LINES.encode()),
    "two-members.jsonl.gz": b"".join(gzip.compress(line.encode()) for line in LINES.splitlines(keepends=True)),
    "array.json.zst": _zstd(ARRAY.encode()),
    "x.csv.bz2": bz2.compress(TABLE.encode()),
    "named-otherwise.jsonl": gzip.compress(LINES.encode()),
    "not-compressed.csv.gz": TABLE.encode(),
    "mark.jsonl": b"\xef\xbb\xbf" + LINES.encode(),
    "mark.csv": b"\xef\xbb\xbf" + TABLE.encode(),
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf16-no-mark.json": ARRAY.encode("utf-16-le"),
    "utf16.csv": TABLE.encode("utf-16"),
    "utf16.tsv.gz": gzip.compress(TABS.encode("utf-16")),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_rows_as_written(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    problems, rejected = load(tmp_path / name)
    assert rejected == []
    assert [{"id": p.problem_id, "problem": p.statement, "answer": p.answer} for p in problems] == ROWS


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    (tmp_path / "x.csv").write_text('problem,answer\n"two\nlines",1\n\nno answer\n?,\n')
    assert refused(tmp_path / "x.csv") == [
        (5, "it has 1 cells, and the first row names 2 columns"),
        (6, "answer is empty"),
    ]


VALUES = [
    (pa.array([Decimal("0.10")], pa.decimal128(10, 2)), "0.10"),
    (pa.array([2**62 + 1], pa.int64()), "4611686018427387905"),
    (pa.array([3.0], pa.float64()), "3"),
    (pa.array([-0.5], pa.float64()), "-0.5"),
    (pa.array([0.1], pa.float32()), "0.1"),
    (pa.array([1e-7], pa.float64()), "0.0000001"),
    (pa.array([1e22], pa.float64()), "10000000000000000000000"),
    (pa.array([["1", "2"]]), "1, 2"),
    (pa.array([[7]]), "7"),
    (pa.array(["0.10"]).dictionary_encode(), "0.10"),
]


@pytest.mark.parametrize(("column", "answer"), VALUES, ids=[f"{a.type}" + t for a, t in VALUES])
def test_numbers_of_tables_are_exact_text(tmp_path, column, answer):
    pq.write_table(pa.table({"problem": ["?"], "answer": column}), tmp_path / "x.parquet")
    assert [p.answer for p in load(tmp_path / "x.parquet")[0]] == [answer]


def test_identifiers_that_a_table_made_floats_of_are_whole_numbers(tmp_path):
    rows = {"problem": ["a", "b", "c"], "answer": ["1"] * 3, "id": pa.array([7.0, None, 7.5])}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    problems, [row] = load(tmp_path / "x.parquet", skip_rejected=True)
    assert [p.problem_id for p in problems] == ["7", "3e23e8160039594a"]  # printf b | sha256sum
    assert row.reason == "id is '7.5' (float), not text or an integer"


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path):
    columns = [pa.array(["?"]), pa.array(["1"]), pa.array(["2"])]
    table = pa.Table.from_arrays(columns, names=["problem", "answer", "answer"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet has two columns 'answer'"):
        load(tmp_path / "x.parquet")


def test_a_list_of_answers_is_all_of_them(tmp_path):
    """OlympiadBench's final_answer; a list of one is the one."""
    rows = [{"question": "a", "final_answer": ["$x=1$", "$x=2$"]}, {"question": "b", "final_answer": ["7"]}]
    (tmp_path / "olympiad.json").write_text(json.dumps(rows))
    assert [p.answer for p in load(tmp_path / "olympiad.json")[0]] == ["$x=1$, $x=2$", "7"]


# --- damage

GOOD = '{"problem": "1+1?", "answer": "2"}'
DEEP = "[" * 2000 + "]" * 2000
BAD_ROWS = [
    (f'{{"problem": "?", "answer": "1", "more": {DEEP}}}', "nested too deeply"),
    (f'{{"problem": "?", "answer": "1", "more": {"[" * 200 + "]" * 200}}}', None),
    (r'{"problem": "half \ud83d here", "answer": "1"}', r"its statement has a lone surrogate, \ud83d, at character 6"),
    (r'{"problem": "whole \ud83d\ude00 here", "answer": "1"}', None),
    (r'{"problem": "!", "answer": "1", "more": {"a": "\udc00"}}', r"its other text has a lone surrogate, \udc00"),
    ('{"problem": "?", "answer": "1", "answer": "2"}', "key 'answer' stands twice in one object"),
    ('{"problem": "?", "answer": "1", "more": {"a": 1, "a": 2}}', "key 'a' stands twice in one object"),
    ('{"problem": "?", "answer": {"a": 1}}', "answer is \"{'a': 1}\" (dict), not text or a number"),
    ('{"problem": ["?"], "answer": "1"}', "problem has no user message"),
    ('{"problem": "?", "answer": ["1", null]}', "answer is missing, not text or a number"),
    ('{"problem": "?", "answer": "1"} {"problem"', "not JSON: something follows it, from character"),
    ('"text"', "a str, not an object with columns"),
    ("7", "a int, not an object with columns"),
]


@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_bad_row_is_one_rejected_row(tmp_path, form):
    rows = [GOOD, *(row.replace('"?"', f'"{i}?"') for i, (row, _) in enumerate(BAD_ROWS)), GOOD.replace("1+1", "2+2")]
    if form == "array":  # where a row is no JSON, the rows behind it cannot be found
        rows = [row for row in rows if DEEP not in row and '} {"problem"' not in row]
    expected = {row.replace('"?"', f'"{i}?"'): why for i, (row, why) in enumerate(BAD_ROWS)}
    text = "\n".join(rows) if form == "lines" else "[" + ",\n".join(rows) + "]"
    (tmp_path / "x.json").write_text(text)
    problems, rejected = load(tmp_path / "x.json", skip_rejected=True)
    assert [p.statement for p in problems if "+" in p.statement] == ["1+1?", "2+2?"]
    reasons = [(line, why) for line, row in enumerate(rows, start=1) if (why := expected.get(row))]
    assert [row.line for row in rejected] == [line for line, _ in reasons]
    for row, (_, why) in zip(rejected, reasons, strict=True):
        assert row.file == str(tmp_path / "x.json")
        assert row.reason.startswith(why), row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[{GOOD}, {DEEP}]", "row 2 is not JSON (nested too deeply)"),
        (f"[{GOOD}, {GOOD}", "row 2 is not JSON (neither a comma nor a closing bracket follows it)"),
        (f"[{GOOD}, ", "row 2 is not JSON (Expecting value"),
        (f"[{GOOD}] {GOOD}", "row 1 is not JSON (something follows the array)"),
        ("[", "row 1 is not JSON (Expecting value"),
    ],
)
def test_an_array_that_cannot_be_read_names_the_row(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path / "x.json", skip_rejected=True)
    assert f"{tmp_path / 'x.json'}, {said}" in caught.value.what


def _parquet(path: Path, **options) -> bytes:
    rows = {"problem": [f"{i} and {i * i}?" for i in range(3000)], "answer": [str(i) for i in range(3000)]}
    pq.write_table(pa.table(rows), path, row_group_size=1000, use_dictionary=False, **options)
    return path.read_bytes()


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
def test_a_corrupt_page_names_file_and_rows(tmp_path, compression):
    path = tmp_path / "x.parquet"
    data = bytearray(_parquet(path, compression=compression, write_page_checksum=True))
    column = pq.read_metadata(path).row_group(1).column(0)
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 16] = bytes(byte ^ 0xFF for byte in data[middle : middle + 16])
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.parquet, rows 1001 to 2000 cannot be read .*damaged"):
        load(path)


def test_text_that_is_no_utf8_is_one_rejected_row(tmp_path):
    column = pa.array([b"1+1?", b"\xff?", b"2+2?"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"problem": column, "answer": ["2", "3", "4"]}), tmp_path / "x.parquet")
    [(line, why)] = refused(tmp_path / "x.parquet")
    assert (line, why.startswith("a text in it is not UTF-8")) == (2, True)


CUT = {
    "cut.jsonl.gz": (gzip.compress(LINES.encode() * 99)[:150], "cannot be decompressed"),
    "cut.json.zst": (_zstd(LINES.encode() * 99)[:100], "cannot be decompressed"),
    "cut.parquet": (b"PAR1" + bytes(50), "is not Parquet"),
    "empty.parquet": (b"", "is not Parquet"),
    "empty.jsonl": (b"", "holds no problem"),
    "empty.json": (b"[]", "holds no problem"),
    "empty.csv": (b"", "holds no problem"),
    "names-alone.csv": (b"problem,answer\n", "holds no problem"),
    "open-quote.csv": (b'problem,answer\n1+1?,2\n"2+2?,4\n3+3?,6\n', "line 3 is not a row of a table"),
    "two-names.csv": (b"problem,answer,answer\n?,1,2\n", "has two columns 'answer'"),
    "object.json": (
        json.dumps({"data": ROWS}, indent=1).encode(),
        "is one JSON value over several lines with the keys data",
    ),
    "row.json": (json.dumps(ROWS[0], indent=1).encode(), "over several lines with the keys id, problem, answer"),
    "latin1.csv": ("problem,answer\n1?,1\nGröße?,1\n".encode("latin-1"), "line 3: byte 22 is not UTF-8"),
    "cut-utf16.jsonl": (LINES.encode("utf-16")[:-1], "line 2: byte"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path, name):
    data, said = CUT[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name, skip_rejected=True)
    assert said in caught.value.what
    assert name in caught.value.what


def test_flipped_bytes_are_never_a_traceback(tmp_path):
    """Whatever is wrong, it is a DataError, a rejected row or other text."""
    sources = {
        "x.parquet": _parquet(tmp_path / "x.parquet", compression="zstd"),
        "x.jsonl": (LINES * 9).encode(),
        "array.json": ARRAY.encode(),
        "x.csv": (TABLE * 9).encode(),
        "x.jsonl.gz": gzip.compress((LINES * 9).encode()),
    }
    for name, data in sources.items():
        for at in range(0, len(data), max(1, len(data) // 25)):
            flipped = data[:at] + bytes(byte ^ 0xA5 for byte in data[at : at + 3]) + data[at + 3 :]
            (tmp_path / name).write_bytes(flipped)
            with suppress(DataError):
                load(tmp_path / name, skip_rejected=True)


def test_what_is_shown_of_a_bad_row_can_be_stored(tmp_path):
    from infra.problems import put_rejected
    from infra.storage import Store

    location = jsonl(tmp_path / "x.jsonl", GOOD, r'{"problem": "\ud800", "answer": "é"}')
    store, (_, rejected) = Store.open(tmp_path / "store"), load(location, skip_rejected=True)
    listed = put_rejected(store, rejected)
    assert listed is not None
    line = store.read(listed.key).decode()
    assert "é" in line
    assert json.loads(json.loads(line)["row"]) == {"problem": "\ud800", "answer": "é"}
