"""The documented schema is the real one, and a store of every version so far stays readable."""

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from infra.analytics import query, show
from infra.storage import CampaignStore, Store, get_table, put_table, table_to_records
from infra.storage.campaign import table_bytes
from infra.storage.rows import SCHEMA, SCHEMA_VERSION
from tests.infra.analytics.stored_kit import commit, config, response
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
    assert table.schema.metadata[b"torl.schema_version"] == b"1"
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
    scores = query(v1, "SELECT benchmark, kind, accuracy FROM scores").to_pylist()
    assert scores == [{"benchmark": "bench", "kind": kind, "accuracy": 1.0} for kind in (None, "product")]
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
    values = {"name": "kept", "store": "elsewhere", "steps": 9, "model": {"path": "base"}}
    values["problems"] = {"location": "kept.jsonl"}
    campaign.check_config(CampaignConfig.model_validate(values))
    moved = {"trainer": {"processes": 8, "zero_stage": 2}, "engine": {"backend": "transformers"}}
    campaign.check_config(CampaignConfig.model_validate(values | moved))
    with pytest.raises(ConfigError, match=r"started with other settings: reward\.wrong was -1\.0, is now 0\.0\. "):
        campaign.check_config(CampaignConfig.model_validate(values | {"reward": {"wrong": 0}}))


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
