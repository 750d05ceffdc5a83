import io
import json
import math
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.storage import Record, records_to_table, table_to_records, table_to_trajectories
from infra.storage.campaign import table_bytes
from infra.storage.rows import SCHEMA, text_features
from torl_core.errors import StoreError
from torl_core.types import Grade, Problem, Prompt, Reward, Segment, Timing, ToolCall, Trajectory


class Letters:
    """A codec whose token i is the character with code point i."""

    end_token_ids = frozenset({3})

    def encode(self, text):
        return tuple(map(ord, text))

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))


def letters(text):
    return tuple(map(ord, text))


tokens = st.lists(st.integers(0, 0xD7FF), max_size=6).map(tuple)
seconds = st.floats(0, 1e4)
float32 = st.floats(width=32, allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
maybe = st.none() | text


@st.composite
def segments(draw):
    author, ids = draw(st.sampled_from(["model", "tool"])), draw(tokens)
    if author == "tool":
        return Segment("tool", ids, None)
    return Segment("model", ids, tuple(draw(st.lists(float32, min_size=len(ids), max_size=len(ids)))))


calls = st.builds(
    ToolCall,
    code=text,
    status=st.sampled_from(["ok", "error", "timeout", "memory", "output_limit", "crash"]),
    stdout=text,
    stderr=text,
    duration_s=seconds,
    queued_s=seconds,
    exit_code=st.none() | st.integers(-64, 255),
    cpu_s=st.none() | seconds,
    peak_memory_bytes=st.none() | st.integers(0, 2**60),
    blocks=st.none() | st.integers(1, 9),
)


@st.composite
def records(draw):
    problem = Problem(
        draw(text),
        draw(text),
        draw(text),
        draw(text),
        draw(st.dictionaries(text, st.none() | st.booleans() | st.integers() | text | st.lists(text), max_size=3)),
    )
    trajectory = Trajectory(
        trajectory_id=draw(text),
        group_id=draw(text),
        policy_version=draw(st.integers(0, 2**60)),
        prompt=Prompt(problem.problem_id, draw(text), draw(tokens)),
        segments=tuple(draw(st.lists(segments(), max_size=5))),
        tool_calls=tuple(draw(st.lists(calls, max_size=3))),
        stop=draw(st.sampled_from(["end", "length"])),
        refused_calls=draw(st.integers(0, 100)),
        discarded_tokens=draw(st.integers(0, 100)),
        timing=Timing(draw(seconds), draw(seconds), draw(seconds)),
        dialect=draw(st.sampled_from([None, 1, 2])),
    )
    grade = draw(st.none() | st.builds(Grade, st.none() | st.booleans(), maybe, text, maybe))
    terms = st.dictionaries(text, st.floats(-10, 10), max_size=3)
    reward = draw(st.none() | st.builds(Reward, terms))
    return Record(trajectory, problem, grade, reward, draw(st.none() | st.floats(-10, 10)))


@settings(max_examples=150, deadline=None)
@given(st.lists(records(), max_size=4))
def test_every_record_comes_back_equal_through_parquet(written):
    data = table_bytes(records_to_table(written, Letters()))
    table = pq.read_table(io.BytesIO(data))
    assert table_to_records(table) == written
    assert table_to_trajectories(table) == [record.trajectory for record in written]
    assert table.schema.equals(SCHEMA)


def example(**changes):
    trajectory = Trajectory(
        trajectory_id="t1",
        group_id="g1",
        policy_version=3,
        prompt=Prompt("p1", "torl", letters("Q?")),
        segments=(
            Segment("model", letters("```python\n1\n```output"), (-0.5,) * 21),
            Segment("tool", letters("\n1é\n```\n"), None),
            Segment("model", letters("so \\boxed{1}\x03"), (-0.25,) * 13),
        ),
        tool_calls=(ToolCall("1", "ok", "1é\n", "", 0.01, 0.02, 0),),
        stop="end",
    )
    problem = Problem("p1", "Q?", "1", "toy", {"kind": "sum", "level": 2})
    return Record(trajectory, problem, **changes)


def test_values_of_one_row():
    graded = example(
        grade=Grade(True, "1", "exact", "2"), reward=Reward({"correct": 1.0, "code": -0.5}), advantage=0.25
    )
    row = records_to_table([graded], Letters()).to_pylist(maps_as_pydicts="strict")[0]
    response = "```python\n1\n```output\n1é\n```\nso \\boxed{1}\x03"
    assert row["token_ids"] == list(letters("Q?" + response))
    assert row["loss_mask"] == [False] * 2 + [True] * 21 + [False] * 8 + [True] * 13
    assert row["logprobs"] == [0.0] * 2 + [-0.5] * 21 + [0.0] * 8 + [-0.25] * 13
    assert row["segments"] == [
        {"author": "model", "start": 2, "length": 21, "text_start": 0, "text_length": 21},
        {"author": "tool", "start": 23, "length": 8, "text_start": 21, "text_length": 8},
        {"author": "model", "start": 31, "length": 13, "text_start": 29, "text_length": 13},
    ]
    assert (row["prompt_text"], row["response"]) == ("Q?", response)
    assert (row["prompt_tokens"], row["model_tokens"], row["tool_tokens"]) == (2, 34, 8)
    assert (row["kind"], json.loads(row["problem_metadata"])) == ("sum", {"kind": "sum", "level": 2})
    assert (row["n_code_blocks"], row["code_before_answer"]) == (1, True)
    assert (row["correct"], row["extracted_answer"], row["grade_reason"]) == (True, "1", "exact")
    assert row["grader"] == "2"
    assert (row["reward"], row["reward_terms"], row["advantage"]) == (0.5, {"correct": 1.0, "code": -0.5}, 0.25)


def test_unscored_is_null_not_zero():
    row = records_to_table([example()], Letters()).to_pylist()[0]
    names = ("correct", "extracted_answer", "grade_reason", "grader", "reward", "reward_terms", "advantage")
    assert [row[name] for name in names] == [None] * 7
    unjudged = records_to_table([example(grade=Grade(None, "1", "timed out"))], Letters()).to_pylist()[0]
    assert (unjudged["correct"], unjudged["grade_reason"]) == (None, "timed out")


def test_pandas_and_duckdb_read_the_file_alone(tmp_path):
    path = tmp_path / "part.parquet"
    path.write_bytes(table_bytes(records_to_table([example(advantage=-1.5)], Letters())))
    frame = pd.read_parquet(path)
    assert frame.advantage.tolist() == [-1.5]
    assert frame.token_ids[0][:2].tolist() == [81, 63]
    query = f"SELECT advantage, tool_calls[1].status, len(logprobs), list_sum(logprobs::DOUBLE[]) FROM '{path}'"
    assert duckdb.sql(query).fetchall() == [(-1.5, "ok", 44, -13.75)]


def test_logprobs_are_stored_as_float32():
    record = example()
    one = Segment("model", (5, 6), (-0.1, -math.inf))
    trajectory = Trajectory("t", "g", 0, record.trajectory.prompt, (one,), (), "length")
    back = table_to_trajectories(records_to_table([Record(trajectory, record.problem)], Letters()))[0]
    assert back.segments[0].logprobs == (float(np.float32(-0.1)), -math.inf)


def test_another_schema_version_is_refused():
    table = records_to_table([example()], Letters()).replace_schema_metadata({"torl.schema_version": "3"})
    with pytest.raises(StoreError, match="schema version 3"):
        table_to_records(table)


@pytest.mark.parametrize(
    ("model_texts", "blocks", "before"),
    [
        (["1. ```py\n   x\n   ```\n~~~python\ny\n~~~\n```output", "\\boxed{1}"], 2, True),
        (["no code, \\boxed{1}"], 0, None),
        (["```python\nx\n```output", "\\boxed{1}"], 1, True),
        (["```python\nx\n```output", "no answer"], 1, None),
        (["\\boxed{1} check:\n```python\nx\n```output", "good"], 1, False),
        (["\\boxed{1} check:\n```python\nx\n```output", "so \\boxed{1}"], 1, True),
        (["```python\nprint('\\boxed{1}')\n```output", "no answer"], 1, None),
        (["```python\na\n```\n```python\nb\n```output", "\\boxed{2}"], 2, True),
        (["\\boxed{2}\n```python\nnever closed \\boxed{3}"], 0, None),
        (["```\nplain\n```\n\\boxed{2}"], 0, None),
        ([], 0, None),
    ],
)
def test_text_features(model_texts, blocks, before):
    features = text_features(model_texts, dialect=2)
    assert (features["n_code_blocks"], features["code_before_answer"]) == (blocks, before)


@pytest.mark.parametrize(("dialect", "blocks", "unrecognised"), [(1, 1, 2), (2, 2, 1), (None, 1, 2)])
def test_text_is_read_by_the_dialect_of_its_trajectory(dialect, blocks, unrecognised):
    texts = ["```py\n1\n```\n```output", "then\n```python\n2\n```\n```output", "or ~~~output"]
    segments = tuple(Segment("model", letters(text), (-0.5,) * len(text)) for text in texts)
    record = example()
    trajectory = replace(record.trajectory, segments=segments, dialect=dialect)
    (row,) = records_to_table([replace(record, trajectory=trajectory)], Letters()).to_pylist()
    assert (row["dialect"], row["n_code_blocks"], row["unrecognised_calls"]) == (dialect, blocks, unrecognised)
