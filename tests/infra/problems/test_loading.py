import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.problems import get_problems, put_problems, put_rejected
from infra.storage import Store
from tests.infra.problems.kit import jsonl, load
from torl_core.errors import DataError


def test_jsonl_rows_become_problems(tmp_path):
    location = jsonl(
        tmp_path / "math.jsonl",
        {"id": "a", "problem": "1+1?", "answer": "2", "level": 3, "share": 0.5},
        {"id": 7, "problem": "2+2?", "answer": 4},
        {"problem": "3+3?", "answer": "6"},
    )
    problems, rejected = load(location=location)
    assert rejected == []
    assert [(p.problem_id, p.statement, p.answer, p.source) for p in problems] == [
        ("a", "1+1?", "2", "math"),
        ("7", "2+2?", "4", "math"),
        ("37c503b2b76634a0", "3+3?", "6", "math"),  # printf '3+3?' | sha256sum
    ]
    assert problems[0].metadata == {"level": 3, "share": 0.5}


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ('"27.0"', "27.0"),
        ("27", "27"),
        ("27.10", "27.10"),
        ("-0.50", "-0.50"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('" x "', " x "),
        ('["\\\\frac12"]', "\\frac12"),
    ],
)
def test_answers_stay_as_written(tmp_path, written, answer):
    location = jsonl(tmp_path / "a.jsonl", f'{{"problem": "?", "answer": {written}}}')
    assert load(location=location)[0][0].answer == answer


BAD_LINES = [
    ('{"id": "1", "problem": "?", "answer": "1"}', None),
    ('{"id": "2", "problem": "?"}', "no column 'answer' (columns: id, problem)"),
    ("", "blank"),
    ('{"id": "3", "problem": "?", "answer": ""}', "answer is empty"),
    ('{"id": "4", "problem": "?", "answer": null}', "answer is missing, not text or a number"),
    ('{"id": "5", "problem": "  ", "answer": "1"}', "problem is empty"),
    ('{"id": "6", "problem": 5, "answer": "1"}', "problem is '5' (int), not text"),
    ('{"id": "1", "problem": "other", "answer": "1"}', "same identifier '1' as "),
    ('{"id": "7", "problem": "?", ', "not JSON"),
    ('{"id": "1", "problem": "?", "answer": "2"}', "same statement as "),
    ("[1, 2]", "a list, not an object with columns"),
    ('{"id": "8", "problem": "?", "answer": true}', "answer is 'True' (bool), not text or a number"),
    ('{"id": "9", "problem": "?", "answer": []}', "answer is an empty list"),
    ('{"id": "10", "problem": "?", "answer": NaN}', "answer is nan, not a finite number"),
    ('{"id": [1], "problem": "?", "answer": "1"}', "id is '[1]' (list), not text or an integer"),
    ('{"id": "11", "problem": "?", "answer": "2"}', None),
]


def test_rejected_rows_are_listed_with_line_and_reason(tmp_path):
    location = jsonl(tmp_path / "bad.jsonl", *(line for line, _ in BAD_LINES))
    problems, rejected = load(location=location, skip_rejected=True)
    assert [p.problem_id for p in problems] == ["1", "11"]
    expected = [(n, why) for n, (_, why) in enumerate(BAD_LINES, start=1) if why not in (None, "blank")]
    assert [row.line for row in rejected] == [line for line, _ in expected]
    for row, (_, why) in zip(rejected, expected, strict=True):
        assert row.reason.startswith(why)
    assert rejected[0].row == '{"id": "2", "problem": "?"}'


def test_rejected_rows_stop_the_run_unless_asked_otherwise(tmp_path):
    location = jsonl(tmp_path / "bad.jsonl", *(line for line, _ in BAD_LINES))
    with pytest.raises(DataError, match=r"13 of 15 rows.*line 2: no column 'answer'.*and 8 more.*skip_rejected"):
        load(location=location)


def test_limit_counts_accepted_rows(tmp_path):
    rows = [{"problem": str(i), "answer": "" if i == 1 else "1"} for i in range(9)]
    location = jsonl(tmp_path / "x.jsonl", *rows)
    problems, rejected = load(location=location, limit=3, skip_rejected=True)
    assert [p.statement for p in problems] == ["0", "2", "3"]
    assert [row.line for row in rejected] == [2]


VERL = [
    {
        "data_source": "math",
        "prompt": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": f"What is {i}+1?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
        "extra_info": {"index": i, "split": "train"},
    }
    for i in range(3)
]
VERL_COLUMNS = {"statement": "prompt", "answer": "reward_model.ground_truth"}


def test_parquet_in_verls_schema(tmp_path):
    pq.write_table(pa.Table.from_pylist(VERL), tmp_path / "train.parquet")
    problems, rejected = load(tmp_path / "train.parquet", problem_id="extra_info.index", name="dapo", **VERL_COLUMNS)
    assert rejected == []
    assert [(p.problem_id, p.statement, p.answer, p.source) for p in problems] == [
        ("0", "What is 0+1?", "1", "dapo"),
        ("1", "What is 1+1?", "2", "dapo"),
        ("2", "What is 2+1?", "3", "dapo"),
    ]
    assert problems[1].metadata["extra_info"] == {"index": 1, "split": "train"}


def test_verls_schema_as_pandas_writes_it(tmp_path):
    pd.DataFrame(VERL).to_parquet(tmp_path / "train.parquet")
    problems, _ = load(location=str(tmp_path / "train.parquet"), **VERL_COLUMNS)
    assert [p.answer for p in problems] == ["1", "2", "3"]


def test_a_chat_without_a_user_is_rejected(tmp_path):
    location = jsonl(tmp_path / "x.jsonl", {"prompt": [{"role": "system", "content": "x"}], "answer": "1"})
    with pytest.raises(DataError, match="prompt has no user message"):
        load(location=location, statement="prompt")


def test_hugging_face_datasets_load_by_name_or_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {"problem": ["1+1?", "2+2?"], "answer": ["2", "4"]}
    made = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"test": made}).save_to_disk(str(tmp_path / "dict"))
    made.save_to_disk(str(tmp_path / "single"))
    (tmp_path / "files").mkdir()
    made.to_parquet(str(tmp_path / "files" / "test-00000-of-00001.parquet"))
    for folder in ("dict", "single", "files"):
        problems, _ = load(location=f"hf:{tmp_path / folder}", split="test")
        assert [(p.statement, p.answer, p.source) for p in problems] == [("1+1?", "2", folder), ("2+2?", "4", folder)]
    with pytest.raises(DataError, match="split 'nosuch' cannot be loaded"):
        load(location=f"hf:{tmp_path / 'files'}", split="nosuch")


def test_toy_problems():
    problems, rejected = load(location="toy:test", limit=9, name="demo")
    assert (len(problems), rejected) == (9, [])
    assert {p.source for p in problems} == {"demo"}
    assert len({p.metadata["kind"] for p in problems}) == 9


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nowhere.jsonl", "cannot be read"),
        ("problems.xlsx", "of no known kind"),
        ("toy:nosuch", "nosuch"),
    ],
)
def test_sources_that_cannot_be_read(location, message):
    with pytest.raises(DataError, match=message):
        load(location=location)


def test_empty_and_damaged_files(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no problem"):
        load(location=str(tmp_path / "empty.jsonl"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not Parquet"):
        load(location=str(tmp_path / "x.parquet"))


def test_stored_problems_come_back_equal(tmp_path):
    location = jsonl(tmp_path / "bad.jsonl", *(line for line, _ in BAD_LINES))
    problems, rejected = load(location=location, skip_rejected=True)
    store = Store.open(tmp_path / "store")
    ref = put_problems(store, problems)
    assert get_problems(store, ref) == problems
    assert (ref.rows, put_problems(store, problems)) == (2, ref)
    listed = store.read(put_rejected(store, rejected).key).decode().splitlines()
    assert json.loads(listed[1])["line"] == 4
    assert put_rejected(store, []) is None
    assert put_problems(store, []).rows == 0
