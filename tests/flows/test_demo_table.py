"""The demo's table and the evaluations that a user adds to its store."""

import io

from rich.console import Console

from flows.demo import Line, _table, table_lines
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, commit_evaluation, config, response


def wholes(table):
    """Label and accuracy of each line over all kinds of problems."""
    shown = zip(*(column.cells for column in table.columns), strict=True)
    return [row[:2] for row in shown if row[0].startswith("C")]


def test_a_policy_is_compared_with_one_that_was_judged_by_the_same_grader(tmp_path):
    """The second grader rejects more, and was there only after training and then for both policies."""
    store = Store.open(tmp_path)
    CampaignStore(store, "demo").save_config(config("demo"))

    def evaluated(step, right, grader):
        records = [response(f"e-{i}", ANSWER, correct=i < right) for i in range(4)]
        commit_evaluation(store, "demo", step, "greedy", 0.0, records, grader=grader)

    evaluated(0, 2, "1")
    evaluated(3, 2, "2")
    assert wholes(_table(table_lines(store))) == [("C = 1, greedy, grader 2 (4)", "– → 0.50")]
    evaluated(0, 1, "2")
    evaluated(3, 3, "1")
    assert wholes(_table(table_lines(store))) == [
        ("C = 1, greedy, grader 1 (4)", "0.50 → 0.75"),
        ("C = 1, greedy, grader 2 (4)", "0.25 → 0.50"),
    ]


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
    assert wholes(table) == [("C = 1, greedy (4)", "0.25 → 0.75"), ("C = 0, greedy (2)", "– → 0.50")]
    assert {(line.max_calls, line.problems_digest) for line in lines} == {(1, "a" * 64), (0, "b" * 64)}


def test_every_figure_is_whole_on_a_terminal_of_80_columns():
    def line(step, kind, accuracy):
        return Line("no-tool", 0, 1, "a", "sampled", kind, step, 512, accuracy, accuracy, accuracy, -accuracy, "1")

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_table([line(step, kind, 0.25 + step) for kind in ("all", "digit_sum") for step in (0, 0.5)]))
    shown = console.export_text()
    assert "C = 0, T = 1 (512)" in shown
    assert shown.count("0.25 → 0.75") == 6
    assert shown.count("-0.25 → -0.75") == 2
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
