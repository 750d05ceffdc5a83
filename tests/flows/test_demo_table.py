"""The demo's table and the evaluations that a user adds to its store."""

from flows.demo import _table, table_lines
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, commit_evaluation, config, response


def test_a_policy_is_compared_with_one_that_was_asked_the_same(tmp_path):
    store = Store.open(tmp_path)
    CampaignStore(store, "demo").save_config(config("demo"))

    def evaluated(step, right, count, **how):
        records = [response(f"e-{i}", ANSWER, correct=i < right) for i in range(count)]
        commit_evaluation(store, "demo", step, "greedy", 0.0, records, **how)

    evaluated(0, 1, 4, problems="a" * 64)
    evaluated(3, 3, 4, problems="a" * 64)
    evaluated(3, 1, 2, problems="b" * 64, max_calls=0)
    lines = table_lines(store)
    table = _table(lines)
    shown = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[:4] for row in shown if row[0]] == [
        ("C = 1", "greedy", "all 4", "0.25 → 0.75"),
        ("C = 0", "greedy", "all 2", "– → 0.50"),
    ]
    assert {(line.max_calls, line.problems_digest) for line in lines} == {(1, "a" * 64), (0, "b" * 64)}
