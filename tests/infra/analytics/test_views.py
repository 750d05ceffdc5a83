import pytest

from infra.analytics import ask, query
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, CODE, commit, commit_evaluation, config, response
from torl_core.errors import DataError, StoreError

VIEWS = [
    "calls", "campaigns", "evaluations", "figure5", "phases", "progress", "scores", "sources", "steps", "trajectories"
]  # fmt: skip


def rows(store, sql):
    return query(store, sql).to_pylist(maps_as_pydicts="strict")


def columns(store, view):
    return [row["column_name"] for row in rows(store, f"DESCRIBE {view}")]


def test_figure5_by_hand(small):
    # Step 1: a right (code, ok), b wrong (code, error, code, ok), c right (code behind the box, not run), d unjudged.
    first, second = rows(small, "FROM figure5")
    assert first == {
        "campaign": "tool",
        "step": 1,
        "max_calls": 1,
        "grader": "1",
        "responses": 4,
        "code_ratio": 3 / 4,
        "pass_ratio": 2 / 3,
        "pass_ratio_in_right": 1.0,
        "pass_ratio_in_wrong": 1 / 2,
        "executed_code_ratio": 3 / 4,
        "code_before_answer_ratio": pytest.approx(2 / 3),
    }
    assert (second["step"], second["responses"], second["code_ratio"]) == (2, 1, 0.0)
    ratios = (
        "pass_ratio",
        "pass_ratio_in_right",
        "pass_ratio_in_wrong",
        "executed_code_ratio",
        "code_before_answer_ratio",
    )
    assert [second[name] for name in ratios] == [None] * 5


def test_sources_by_hand(store):
    training = [
        response("c-1-a", CODE, ("ok", "1"), ANSWER, correct=True, source="math"),
        response("c-1-b", CODE, ("error", ""), CODE, ("ok", "1"), ANSWER, correct=False, source="math"),
        response("c-1-c", "no idea", correct=None, stop="length", source="numina"),
    ]
    CampaignStore(store, "c").save_config(config("c"))
    commit(store, "c", 1, training)
    identity = commit_evaluation(store, "c", 1, "both", 0.0, [response("c-e-a", ANSWER, correct=True, source="math")])
    math, numina, evaluated = rows(store, "FROM sources ORDER BY benchmark NULLS FIRST, source")
    assert (math["campaign"], math["step"], math["source"], math["benchmark"]) == ("c", 1, "math", None)
    assert (math["responses"], math["accuracy"], math["reward"], math["pass_ratio"]) == (2, 0.5, 0.0, 2 / 3)
    assert (math["code_ratio"], math["truncated_share"], math["ungraded_share"]) == (1.0, 0.0, 0.0)
    assert math["response_tokens"] == (40 + 7 + 68 + 41 + 7) / 2  # letters are tokens, as in `progress`
    assert (numina["source"], numina["responses"], numina["accuracy"], numina["pass_ratio"]) == (
        "numina",
        1,
        None,
        None,
    )
    assert (numina["truncated_share"], numina["ungraded_share"]) == (1.0, 1.0)
    assert (evaluated["benchmark"], evaluated["evaluation"], evaluated["source"]) == ("both", identity, "math")
    assert (evaluated["responses"], evaluated["accuracy"]) == (1, 1.0)


def test_progress_by_hand(small):
    first, second = rows(small, "FROM progress")
    assert first["responses"] == 4
    assert first["reward"] == pytest.approx(1 / 3)  # +1, -1, +1; the unjudged one has none
    assert first["accuracy"] == pytest.approx(2 / 3)
    assert (first["ungraded_share"], first["truncated_share"], first["calls"]) == (1 / 4, 1 / 4, 3 / 4)
    # letters are tokens: CODE has 28, ANSWER 12; c's code 23; shown output 1 + 6, the error 35 + 6
    assert first["model_tokens"] == pytest.approx(((28 + 12) + (28 + 28 + 12) + (12 + 23) + 7) / 4)
    assert first["tool_tokens"] == pytest.approx((7 + 41 + 7) / 4)
    assert first["response_tokens"] == first["model_tokens"] + first["tool_tokens"]
    assert first["step_time_s"] == 4.0
    assert first["phases_s"] == {"overhead": 0.25, "reward": 0.25, "rollout": 2.0, "train": 1.5}
    assert (second["step_time_s"], second["phases_s"]) == (3.0, {"rollout": 1.0, "train": 2.0})
    assert (second["reward"], second["accuracy"], second["ungraded_share"]) == (1.0, 1.0, 0.0)


def test_only_committed_steps_are_seen(small):
    assert rows(small, "SELECT DISTINCT step FROM trajectories ORDER BY step") == [{"step": 1}, {"step": 2}]
    assert any("step=000003" in key for key in small.list("trajectories"))


def test_calls_are_unnested_with_their_response(small):
    found = rows(small, "SELECT trajectory_id, number, status, correct, kind FROM calls ORDER BY ALL")
    assert [tuple(row.values()) for row in found] == [
        ("tool-1-a", 1, "ok", True, "sum"),
        ("tool-1-b", 1, "error", False, "lcm"),
        ("tool-1-b", 2, "ok", False, "lcm"),
    ]


def test_steps_hold_lineage_and_metrics(small):
    first = rows(small, "FROM steps ORDER BY step")[0]
    assert (first["responses"], first["metrics"], first["config_digest"]) == (4, {"loss": 0.5}, "abc")
    assert (first["policy_in"], first["policy_out"]) == ("0" * 64, "1" * 64)
    assert first["policy_uri"] == small.uri_of("checkpoints/c/step=000001/policy")
    assert len(first["code_version"]) == 16


def test_steps_hold_the_share_of_groups_that_taught_something(small):
    """None for a step that an earlier version made."""
    commit(small, "tool", 3, [response("tool-3-a", ANSWER, correct=True)], metrics={"signal_share": 0.25})
    found = rows(small, "SELECT step, signal_share FROM steps ORDER BY step")
    assert [row["signal_share"] for row in found] == [None, None, 0.25]


def test_steps_hold_the_settings_that_may_change_when_a_campaign_is_resumed(small):
    commit(small, "tool", 3, [response("tool-3-a", ANSWER, correct=True)], settings={"trainer": {"processes": 8}})
    found = rows(small, "SELECT step, (settings->>'$.trainer.processes')::INT AS ranks FROM steps ORDER BY step")
    assert [row["ranks"] for row in found] == [None, None, 8]


def test_evaluations_and_scores(small):
    commit_evaluation(
        small,
        "tool",
        0,
        "toy",
        0.0,
        [
            response("e-1", CODE, ("ok", "1"), ANSWER, correct=True),
            response("e-2", ANSWER, correct=False),
            response("e-3", ANSWER, correct=True, kind="lcm"),
            response("e-4", ANSWER, correct=None, kind="lcm"),
        ],
    )
    commit_evaluation(small, "tool", 0, "toy", 1.0, [response("f-1", ANSWER, correct=False)], max_calls=0)
    found = rows(small, "SELECT temperature, max_calls, kind, responses, accuracy, code_ratio, pass_ratio FROM scores")
    assert [tuple(row.values()) for row in found] == [
        (0.0, 1, None, 4, pytest.approx(2 / 3), 1 / 4, 1.0),
        (0.0, 1, "lcm", 2, 1.0, 0.0, None),
        (0.0, 1, "sum", 2, 1 / 2, 1 / 2, 1.0),
        (1.0, 0, None, 1, 0.0, 0.0, None),
        (1.0, 0, "sum", 1, 0.0, 0.0, None),
    ]
    assert rows(small, "SELECT count(*) AS n FROM trajectories") == [{"n": 5}]
    assert len(rows(small, "FROM evaluations")) == 5


def test_an_empty_store_has_empty_views_with_the_same_columns(small, tmp_path):
    commit_evaluation(small, "tool", 0, "toy", 0.0, [response("e-1", ANSWER, correct=True)])
    empty = Store.open(tmp_path / "empty")
    assert [row["name"] for row in rows(empty, "SHOW TABLES")] == VIEWS
    for view in VIEWS:
        assert rows(empty, f"FROM {view}") == []
        assert columns(empty, view) == columns(small, view)


def test_a_step_without_rows(store):
    commit(store, "tool", 1, [])
    assert rows(store, "FROM trajectories") == []
    assert rows(store, "FROM figure5") == []
    assert rows(store, "SELECT responses, accuracy, step_time_s FROM progress") == [
        {"responses": None, "accuracy": None, "step_time_s": 4.0}
    ]


def test_campaign_names_that_look_like_numbers_or_patterns(tmp_path):
    store = Store.open(tmp_path / "it's a [store]*")
    CampaignStore(store, "007").save_config(config("007", max_calls=2))
    commit(store, "007", 1, [response("x-1", ANSWER, correct=True)])
    assert rows(store, "SELECT campaign, step, max_calls FROM trajectories") == [
        {"campaign": "007", "step": 1, "max_calls": 2}
    ]


def test_a_remote_store_is_read_in_place(small):
    remote = Store.open("memory://analytics")
    for key in small.list(""):
        remote.write(key, small.read(key))
    assert rows(remote, "FROM figure5") == rows(small, "FROM figure5")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nosuch FROM steps", r"nosuch.*The views are calls, campaigns, .*, trajectories"),
        ("SELECT 1; SELECT 2", "is not one statement that reads"),
        ("COPY (SELECT 1) TO 'x.csv'", "is not one statement that reads"),
        ("CREATE TABLE t (a INT)", "is not one statement that reads"),
        ("SET threads = 1", "is not one statement that reads"),
        ("", "is not one statement that reads"),
        ("SELECT 1/0::INT + 'x'::INT", "does not run"),
    ],
)
def test_bad_sql_is_one_clear_error(small, sql, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        query(small, sql)


def test_a_missing_file_is_a_store_error(small):
    (key,) = small.list("trajectories/campaign=tool/step=000001")
    small.delete(key)
    with pytest.raises(StoreError, match=f"{key}: it is not there"):
        query(small, "FROM trajectories")


def test_a_question_has_the_connection(small):
    assert ask(small, lambda connection: connection.sql("SELECT count(*) FROM calls").fetchall()) == [(3,)]


def test_whatever_counts_right_answers_says_which_grader_found_them_right(tmp_path):
    """A step of an earlier version, which names no grader, beside steps of two later graders."""
    store = Store.open(tmp_path)
    CampaignStore(store, "tool").save_config(config("tool"))
    for step, grader in ((1, None), (2, "2"), (3, "3")):
        commit(store, "tool", step, [response(f"tool-{step}-a", ANSWER, correct=True, step=step)], grader=grader)
        commit_evaluation(
            store, "tool", step, "greedy", 0.0, [response(f"e-{step}-a", ANSWER, correct=True)], grader=grader or "1"
        )
    for view in ("trajectories", "steps", "progress", "figure5", "evaluations", "scores", "sources"):
        found = rows(store, f"SELECT DISTINCT step, grader FROM {view} ORDER BY step")
        assert [tuple(row.values()) for row in found] == [(1, "1"), (2, "2"), (3, "3")], view
