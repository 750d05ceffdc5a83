"""The documented schema is the real one, and a store of every version so far stays readable."""

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from infra.analytics import query, show
from infra.storage import CampaignStore, StepManifest, Store, get_table, put_table, table_to_records
from infra.storage.campaign import table_bytes
from infra.storage.compaction import compact
from infra.storage.rows import SCHEMA, SCHEMA_VERSION, records_to_table, with_verdicts
from tests.infra.analytics.stored_kit import POLICIES, Letters, commit, config, response
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError, StoreError
from torl_core.types import Grade, Problem, Prompt, Reward, Segment, Timing, ToolCall, Trajectory

ROOT = Path(__file__).resolve().parents[3]
KEPT = Path(__file__).parent / "schemas"


def documented():
    """(column, type, unit, meaning) of each line of the table in docs/store.md."""
    page = (ROOT / "docs" / "store.md").read_text()
    section = page.split("\n## Rows\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ?([^|]*) ?\| ?([^|]*) ?\|$", section, re.MULTILINE)
    return [tuple(cell.strip() for cell in line) for line in lines]


def type_name(kind):
    return re.sub(r"\bfloat\b", "float32", str(kind).replace("item: ", "").replace("double", "float64"))


def actual(schema):
    """(column, type), fields of nested structs behind their column."""
    for field in schema:
        if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
            yield field.name, "list<struct>"
            yield from ((f"{field.name}[].{inner.name}", type_name(inner.type)) for inner in field.type.value_type)
        else:
            yield field.name, type_name(field.type)


def test_every_column_is_documented_with_its_type_in_order():
    assert [line[:2] for line in documented()] == list(actual(SCHEMA))


def test_units_stand_in_the_names_and_in_the_documentation():
    units = {"_s": "s", "_bytes": "bytes", "_tokens": "tokens"}
    for column, _, unit, meaning in documented():
        assert meaning or unit, f"{column} says nothing"
        wanted = [unit for ending, unit in units.items() if column.endswith(ending)]
        assert wanted in ([], [unit]), column


def test_the_documented_version_is_the_one_that_files_carry():
    assert f"The schema has version {SCHEMA_VERSION}:" in (ROOT / "docs" / "store.md").read_text()
    file = pq.read_metadata(io.BytesIO(table_bytes(SCHEMA.empty_table())))
    assert file.metadata[b"torl.schema_version"] == str(SCHEMA_VERSION).encode()


def test_a_store_of_every_version_is_kept():
    assert sorted(folder.name for folder in KEPT.iterdir()) == [f"v{n}" for n in range(1, SCHEMA_VERSION + 1)]


# --- version 1


@pytest.fixture(scope="module")
def v1():
    return Store.open(KEPT / "v1")


def ids(text):
    return tuple(map(ord, text))


CODE, OUTPUT, ANSWER = "```python\nprint(6 * 7)\n```output", "\n42\n```\n", "So \\boxed{42}\x03"


def test_records_of_version_1(v1):
    manifest = CampaignStore(v1, "kept").manifest(1)
    assert (manifest.schema_version, manifest.metrics, manifest.optimizer.digest) == (1, {"loss": 0.5}, "d" * 64)
    table = get_table(v1, manifest.trajectories[0])
    assert table.schema.equals(SCHEMA, check_metadata=True)
    right, wrong, unjudged = table_to_records(table)
    assert right.trajectory == Trajectory(
        "kept-000001-0000-00",
        "kept-000001-0000",
        0,
        Prompt("p1", "torl", ids("What is 6 * 7?")),
        (
            Segment("model", ids(CODE), (-0.5,) * len(CODE)),
            Segment("tool", ids(OUTPUT), None),
            Segment("model", ids(ANSWER), (-0.5,) * len(ANSWER)),
        ),
        (ToolCall("print(6 * 7)", "ok", "42\n", "", 0.25, 0.125, 0, 0.0625, 4096),),
        "end",
        1,
        0,
        Timing(2.0, 0.5, 2.5),
    )
    assert right.problem == Problem("p1", "What is 6 * 7?", "42", "kept", {"kind": "product", "level": 2})
    assert (right.grade, right.advantage) == (Grade(True, "42", "exact"), 0.75)
    assert right.reward == Reward({"correctness": 1.0, "executability": 0.0})
    assert (wrong.grade, wrong.advantage) == (Grade(False, "41", "different"), -0.75)
    assert (unjudged.grade, unjudged.reward, unjudged.advantage) == (Grade(None, None, "timed out"), None, None)
    assert unjudged.trajectory.discarded_tokens == 3


def test_views_of_version_1(v1):
    (figures,) = query(v1, "FROM figure5").to_pylist()
    assert (figures["responses"], figures["code_ratio"], figures["pass_ratio"]) == (3, pytest.approx(1 / 3), 1.0)
    (step,) = query(v1, "SELECT reward, accuracy, step_time_s FROM progress").to_pylist()
    assert step == {"reward": 0.0, "accuracy": 0.5, "step_time_s": 4.0}
    scores = query(v1, "SELECT benchmark, kind, accuracy, grader FROM scores").to_pylist()
    assert scores == [
        {"benchmark": "bench", "kind": kind, "accuracy": 1.0, "grader": "1"} for kind in (None, "product")
    ]
    for view in ("trajectories", "evaluations", "steps", "progress", "figure5"):
        assert query(v1, f"SELECT DISTINCT grader FROM {view}").to_pylist() == [{"grader": "1"}], view
    (call,) = query(v1, "SELECT code, stdout, peak_memory_bytes FROM calls").to_pylist()
    assert call == {"code": "print(6 * 7)", "stdout": "42\n", "peak_memory_bytes": 4096}


@pytest.mark.parametrize("trajectory_id", ["kept-000001-0000-00", "kept-000001-bench"])
def test_a_trajectory_of_version_1_is_shown(v1, trajectory_id):
    console = Console(file=io.StringIO(), width=100)
    console.print(show(v1, trajectory_id))
    shown = console.file.getvalue()
    for part in ("print(6 * 7)", "So \\boxed{42}", "42  right", "14 prompt, 46 model, 8 tool"):
        assert part in shown


def test_a_campaign_of_version_1_is_gone_on_with(v1):
    campaign = CampaignStore(v1, "kept")
    values = {"name": "kept", "store": "elsewhere", "steps": 9, "model": {"path": "base"}, "tool": {"dialect": 1}}
    values["tool"] |= {"observation_max_chars": 2000}
    values["problems"] = {"location": "kept.jsonl"}
    campaign.check_config(CampaignConfig.model_validate(values))
    moved = {"trainer": {"processes": 8, "zero_stage": 2}, "engine": {"backend": "transformers"}}
    campaign.check_config(CampaignConfig.model_validate(values | moved))
    with pytest.raises(ConfigError, match=r"started with other settings: reward\.wrong was -1\.0, is now 0\.0\. "):
        campaign.check_config(CampaignConfig.model_validate(values | {"reward": {"wrong": 0}}))


def test_a_campaign_that_was_started_before_there_were_dialects_goes_on_with_the_first(v1):
    assert "dialect" not in v1.read_json("campaigns/kept/config.json")["tool"]
    assert CampaignStore(v1, "kept").recorded_config().tool.dialect == 1


# --- version 2


@pytest.fixture(scope="module")
def v2():
    return Store.open(KEPT / "v2")


def test_records_of_version_2(v2):
    manifest = CampaignStore(v2, "kept").manifest(1)
    assert (manifest.schema_version, CampaignStore(v2, "kept").recorded_config().tool.dialect) == (2, 2)
    right, wrong, _ = table_to_records(get_table(v2, manifest.trajectories[0]))
    assert (right.trajectory.dialect, wrong.trajectory.dialect) == (2, 2)
    assert [call.blocks for call in right.trajectory.tool_calls] == [1]


def test_views_of_version_2(v2):
    (step,) = query(v2, "SELECT accuracy, unrecognised_calls FROM progress").to_pylist()
    assert step == {"accuracy": 0.5, "unrecognised_calls": 0.0}
    (call,) = query(v2, "SELECT code, blocks FROM calls").to_pylist()
    assert call == {"code": "print(6 * 7)", "blocks": 1}


# --- versions side by side

V1_ROWS = pa.schema(
    [
        *[(name, pa.string()) for name in ("trajectory_id", "group_id")],
        ("policy_version", pa.int64()),
        *[(name, pa.string()) for name in ("problem_id", "source", "kind", "statement", "gold_answer")],
        *[(name, pa.string()) for name in ("problem_metadata", "template", "stop")],
        ("token_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("logprobs", pa.list_(pa.float32())),
        (
            "segments",
            pa.list_(
                pa.struct(
                    [
                        ("author", pa.string()),
                        *[(name, pa.int32()) for name in ("start", "length", "text_start", "text_length")],
                    ]
                )
            ),
        ),
        (
            "tool_calls",
            pa.list_(
                pa.struct(
                    [
                        *[(name, pa.string()) for name in ("code", "status", "stdout", "stderr")],
                        *[(name, pa.float64()) for name in ("duration_s", "queued_s")],
                        ("exit_code", pa.int32()),
                        ("cpu_s", pa.float64()),
                        ("peak_memory_bytes", pa.int64()),
                    ]
                )
            ),
        ),
        *[(name, pa.int32()) for name in ("refused_calls", "discarded_tokens")],
        *[(name, pa.float64()) for name in ("generate_s", "execute_s", "total_s")],
        *[(name, pa.string()) for name in ("prompt_text", "response")],
        *[(name, pa.int32()) for name in ("prompt_tokens", "model_tokens", "tool_tokens", "n_code_blocks")],
        *[(name, pa.bool_()) for name in ("code_before_answer", "correct")],
        *[(name, pa.string()) for name in ("extracted_answer", "grade_reason")],
        ("reward", pa.float64()),
        ("reward_terms", pa.map_(pa.string(), pa.float64())),
        ("advantage", pa.float64()),
    ],
    metadata={"torl.schema_version": "1"},
)
CALL_TEXT = "```python\n7\n```output"
V1_ROW = {
    **{"trajectory_id": "tool-1-a", "group_id": "tool-1", "policy_version": 0, "problem_id": "p", "source": "toy"},
    **{"kind": None, "statement": "Q?", "gold_answer": "7", "problem_metadata": "{}", "template": "torl"},
    **{"stop": "length", "token_ids": ids("Q?" + CALL_TEXT), "loss_mask": [False] * 2 + [True] * len(CALL_TEXT)},
    "logprobs": [0.0] * 2 + [-0.5] * len(CALL_TEXT),
    "segments": [{"author": "model", "start": 2, "length": 21, "text_start": 0, "text_length": 21}],
    "tool_calls": [
        {"code": "7", "status": "ok", "stdout": "", "stderr": "", "duration_s": 0.5, "queued_s": 0.0}
        | {"exit_code": 0, "cpu_s": None, "peak_memory_bytes": 9}
    ],
    **{"refused_calls": 0, "discarded_tokens": 0, "generate_s": 1.0, "execute_s": 1.0, "total_s": 2.0},
    **{"prompt_text": "Q?", "response": CALL_TEXT, "prompt_tokens": 2, "model_tokens": 21, "tool_tokens": 0},
    **{"n_code_blocks": 1, "code_before_answer": None, "correct": None, "extracted_answer": None},
    **{"grade_reason": None, "reward": None, "reward_terms": None, "advantage": None},
}


def v1_table():
    return pa.Table.from_pylist([V1_ROW], schema=V1_ROWS)


def commit_v1(store, step):
    campaign = CampaignStore(store, "tool")
    refs = (campaign.put_trajectories(step, v1_table()),)
    versions = {"code": "older"}
    manifest = StepManifest(
        "tool", step, refs, POLICIES[step - 1], POLICIES[step], None, "abc", versions=versions, schema_version=1
    )
    campaign.commit_step(manifest)
    return refs[0]


def test_rows_written_under_version_1_become_records(store):
    (record,) = table_to_records(get_table(store, put_table(store, "t", v1_table())))
    assert (record.trajectory.dialect, record.trajectory.tool_calls[0].blocks) == (None, None)
    assert record.trajectory.tool_calls == (ToolCall("7", "ok", "", "", 0.5, 0.0, 0, None, 9),)
    judged = with_verdicts(
        get_table(store, put_table(store, "t", v1_table())), [Grade(True, "7", "exact")], [None], [0.5]
    )
    assert judged.schema.equals(SCHEMA)
    assert (judged.column("correct").to_pylist(), judged.column("advantage").to_pylist()) == ([True], [0.5])


@pytest.mark.parametrize("old_first", [True, False])
def test_views_of_a_campaign_that_went_on_under_version_2(tmp_path, old_first):
    store = Store.open(tmp_path)
    CampaignStore(store, "tool").save_config(config("tool"))
    old, new = (1, 2) if old_first else (2, 1)
    commit_v1(store, old)
    commit(store, "tool", new, [response("tool-2-a", "it prints ```output and \\boxed{1}", correct=True)])
    rows = query(store, "SELECT step, dialect, unrecognised_calls, kind, model_tokens FROM trajectories ORDER BY ALL")
    assert sorted(map(tuple, (row.values() for row in rows.to_pylist()))) == sorted(
        [(old, None, None, None, 21), (new, None, 1, "sum", 33)]
    )
    calls = query(store, "SELECT step, code, peak_memory_bytes, blocks FROM calls").to_pylist()
    assert calls == [{"step": old, "code": "7", "peak_memory_bytes": 9, "blocks": None}]


def test_a_further_nullable_column_or_field_needs_no_new_version(store):
    table = records_to_table([response("tool-1-a", CODE, ("ok", "42"), "So", correct=True)], Letters())
    (calls,) = table.column("tool_calls").to_pylist()
    wider = table.append_column("a_new_column", pa.array([1])).set_column(
        table.schema.get_field_index("tool_calls"), "tool_calls", pa.array([[call | {"new": 1} for call in calls]])
    )
    wider = wider.replace_schema_metadata(SCHEMA.metadata)
    assert table_to_records(get_table(store, put_table(store, "t", wider))) == table_to_records(table)


def test_files_of_version_1_are_compacted_as_they_are(tmp_path):
    store = Store.open(tmp_path)
    campaign = CampaignStore(store, "tool")
    campaign.save_config(config("tool"))
    tables = [v1_table(), pa.Table.from_pylist([V1_ROW | {"trajectory_id": "tool-1-b"}], schema=V1_ROWS)]
    refs = tuple(campaign.put_trajectories(1, table) for table in tables)
    campaign.commit_step(StepManifest("tool", 1, refs, *POLICIES[:2], None, "abc", schema_version=1))
    assert [(one.files_before, one.files_after) for one in compact(campaign)] == [(2, 1)]
    assert query(store, "SELECT trajectory_id FROM trajectories ORDER BY ALL").num_rows == 2


# --- versions to come


def test_a_file_of_a_newer_version_is_refused(store):
    newer = SCHEMA.empty_table().replace_schema_metadata({"torl.schema_version": str(SCHEMA_VERSION + 1)})
    ref = put_table(store, "t", newer)
    for read in (lambda: get_table(store, ref), lambda: table_to_records(newer)):
        with pytest.raises(StoreError, match=f"schema version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
            read()


def test_a_step_of_a_newer_version_is_refused_by_views_and_show(tmp_path):
    store = Store.open(tmp_path)
    CampaignStore(store, "tool").save_config(config("tool"))
    commit(store, "tool", 1, [response("tool-1-a", "So \\boxed{1}", correct=True)])
    key = CampaignStore(store, "tool").manifest_key(1)
    store.write_json(key, store.read_json(key) | {"schema_version": SCHEMA_VERSION + 1, "a_new_field": 1})
    for ask in (lambda: query(store, "FROM progress"), lambda: show(store, "tool-1-a")):
        with pytest.raises(StoreError, match=rf"000001/manifest\.json has schema version {SCHEMA_VERSION + 1}"):
            ask()
