"""Which stored evaluation answers a question: only one that was asked for the same."""

import pyarrow as pa
import pytest

from infra.analytics import query
from infra.storage import Ref, Store, put_table
from infra.storage.evaluations import stored_answer
from tests.infra.storage.campaign_kit import answer, asking, rows, start
from torl_core import grading
from torl_core.types import Policy

POLICY = Policy(1, "checkpoints/demo/step=000001/policy", "1" * 64)


@pytest.fixture
def campaign(tmp_path):
    return start(Store.open(tmp_path / "a [store]* of it's own"))


def some_problems(campaign, count):
    return put_table(campaign.store, "problems", pa.table({"problem_id": list(map(str, range(count)))}), prefix="")


def test_other_problems_and_another_c_are_another_evaluation(campaign):
    """512 problems at C = 1 are no answer to 32 problems at C = 0; both stand side by side afterwards."""
    many, few = some_problems(campaign, 512), some_problems(campaign, 32)
    first = answer(campaign, asking(campaign), 1, POLICY, many, count=512)
    without = asking(campaign, max_calls=0)
    assert stored_answer(campaign, asking(campaign), 1, POLICY, "toy", many) == first
    assert stored_answer(campaign, without, 1, POLICY, "toy", few) is None
    assert stored_answer(campaign, asking(campaign), 1, POLICY, "toy", few) is None
    assert stored_answer(campaign, without, 1, POLICY, "toy", many) is None
    second = answer(campaign, without, 1, POLICY, few, count=32)
    assert stored_answer(campaign, without, 1, POLICY, "toy", few) == second
    assert stored_answer(campaign, asking(campaign), 1, POLICY, "toy", many) == first
    sql = "SELECT max_calls, responses, problems_digest, evaluation FROM scores WHERE kind IS NULL ORDER BY max_calls"
    assert [tuple(row.values()) for row in query(campaign.store, sql).to_pylist()] == [
        (0, 32, few.digest, second.identity),
        (1, 512, many.digest, first.identity),
    ]
    assert query(campaign.store, "SELECT count(*) AS n FROM evaluations").to_pylist() == [{"n": 544}]


# --- evaluations that carry no identity


PROBLEMS = Ref("problems/p.parquet", "d" * 64, 3, 100)


@pytest.fixture
def grader_1(monkeypatch):
    monkeypatch.setattr(grading, "VERSION", "1")


def without_identity(campaign, **changes):
    """The manifest of version 1, written out; its rows lie in a folder named by temperature."""
    folder = "evaluations/campaign=demo/step=000001/benchmark=toy/temperature=0"
    ref = put_table(campaign.store, folder, rows("old"))
    manifest = {
        "benchmark": "toy",
        "campaign": "demo",
        "config_digest": "68f1a2b3c4d5",
        "created_at": "2026-11-21T08:49:23+00:00",
        "duration_s": 1.5,
        "max_calls": 1,
        "metrics": {"accuracy": 0.5},
        "policy": {"digest": "1" * 64, "parent": None, "version": 1, "weights_uri": POLICY.weights_uri},
        "problems": {"bytes": 100, "digest": "d" * 64, "key": "problems/p.parquet", "rows": 3},
        "samples": 1,
        "schema_version": 1,
        "step": 1,
        "temperature": 0.0,
        "trajectories": [{"bytes": ref.bytes, "digest": ref.digest, "key": ref.key, "rows": 2}],
        "versions": {"code": "4df7e372aac3fe11", "python": "3.11.7"},
    }
    campaign.store.write_json("campaigns/demo/evaluations/000001/toy-t0.json", manifest | changes)


@pytest.mark.usefixtures("grader_1")
def test_an_evaluation_without_identity_answers_where_all_it_records_agrees(campaign, monkeypatch):
    without_identity(campaign)
    found = stored_answer(campaign, asking(campaign), 1, POLICY, "toy", PROBLEMS)
    assert (found.identity, found.metrics) == (None, {"accuracy": 0.5})
    monkeypatch.setattr(grading, "VERSION", "0")
    assert stored_answer(campaign, asking(campaign), 1, POLICY, "toy", PROBLEMS) is None


@pytest.mark.parametrize(
    "other",
    [
        {"samples": 4},
        {"max_calls": 0},
        {"problems": None},
        {"problems": {"bytes": 100, "digest": "e" * 64, "key": "problems/p.parquet", "rows": 3}},
        {"policy": {"digest": "2" * 64, "parent": None, "version": 1, "weights_uri": POLICY.weights_uri}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("grader_1")
def test_it_answers_no_other_question(campaign, other):
    without_identity(campaign, **other)
    assert stored_answer(campaign, asking(campaign), 1, POLICY, "toy", PROBLEMS) is None


@pytest.mark.usefixtures("grader_1")
def test_it_answers_under_the_campaigns_own_settings_only(campaign):
    without_identity(campaign)
    faster = asking(campaign, settings={"engine": {"max_num_seqs": 1}, "sandbox": {"workers": 9}})
    assert stored_answer(campaign, faster, 1, POLICY, "toy", PROBLEMS) is not None
    other = asking(campaign, settings={"sandbox": {"timeout_s": 1.0}})
    assert stored_answer(campaign, other, 1, POLICY, "toy", PROBLEMS) is None


def test_views_show_it_beside_those_with_an_identity(store):
    campaign = start(store)
    without_identity(campaign)
    asked = asking(campaign, settings={"engine": {"max_num_seqs": 7}})
    made = answer(campaign, asked, 1, POLICY, some_problems(campaign, 3), count=3)
    sql = """SELECT evaluation, problems_digest, responses, CAST(settings->'$.engine.max_num_seqs' AS INTEGER) AS seqs
             FROM scores WHERE kind IS NULL"""
    assert [tuple(row.values()) for row in query(campaign.store, sql).to_pylist()] == [
        (None, "d" * 64, 2, None),
        (made.identity, made.problems.digest, 3, 7),
    ]
    counted = "SELECT campaign, step, benchmark, temperature, count(*) AS n FROM evaluations GROUP BY ALL"
    assert [tuple(row.values()) for row in query(campaign.store, counted).to_pylist()] == [("demo", 1, "toy", 0.0, 5)]
