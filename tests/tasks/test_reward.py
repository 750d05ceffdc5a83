"""Verdicts and rewards of a step's rows, and what its summary says about its groups."""

import pytest

from infra.resources import session
from infra.storage import records_to_table
from tasks.reward import score, summarise, summarise_step
from tests.infra.analytics.stored_kit import ANSWER, CODE, Letters, config, judged_by, response
from torl_core import grading

RIGHT, WRONG, UNGRADED = True, False, None


@pytest.mark.parametrize(
    ("groups", "share"),
    [
        ([[RIGHT, WRONG], [WRONG, WRONG], [RIGHT, RIGHT], [RIGHT, RIGHT]], 0.25),
        ([[WRONG, WRONG], [RIGHT, RIGHT]], 0.0),
        ([[RIGHT, UNGRADED, RIGHT], [RIGHT, UNGRADED, WRONG]], 0.5),
        ([[RIGHT, UNGRADED], [UNGRADED, UNGRADED]], 0.0),
    ],
)
def test_the_share_of_groups_whose_rewards_differ(groups: list[list[bool | None]], share: float) -> None:
    records = [
        response(f"a-{g}-{i}", ANSWER, correct=correct)
        for g, group in enumerate(groups)
        for i, correct in enumerate(group)
    ]
    table = records_to_table(records, Letters())
    assert summarise_step(table) == {**summarise(table), "signal_share": share}


def test_every_figure_is_also_by_source_where_there_are_several() -> None:
    rows = [
        response("a-0-0", CODE, ("ok", "1"), ANSWER, correct=True, source="math"),
        response("a-0-1", CODE, ("error", ""), ANSWER, correct=False, source="math"),
        response("a-1-0", ANSWER, correct=True, source="gsm8k"),
        response("a-1-1", ANSWER, correct=None, source="gsm8k"),
    ]
    assert summarise_step(records_to_table(rows, Letters())) == {
        "accuracy": pytest.approx(2 / 3), "accuracy/gsm8k": 1.0, "accuracy/math": 0.5,
        "reward": pytest.approx(1 / 3), "reward/gsm8k": 1.0, "reward/math": 0.0,
        "pass_ratio": 0.5, "pass_ratio/math": 0.5,
        "called_share": 0.5, "called_share/gsm8k": 0.0, "called_share/math": 1.0,
        "ungraded_share": 0.25, "ungraded_share/gsm8k": 0.5, "ungraded_share/math": 0.0,
        "unrecognised_calls": 0.0, "unrecognised_calls/gsm8k": 0.0, "unrecognised_calls/math": 0.0,
        "signal_share": 0.5, "signal_share/gsm8k": 0.0, "signal_share/math": 1.0,
        "response_share/gsm8k": 0.5, "response_share/math": 0.5,
    }  # fmt: skip
    one = records_to_table(rows[:2], Letters())
    assert not [name for name in (*summarise_step(one), *summarise(one)) if "/" in name]


def test_each_row_names_the_grader_that_judged_it_whatever_stood_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "VERSION", "7")
    records = [response("a-0-0", ANSWER, correct=False), response("a-0-1", "So \\boxed{2}", correct=True)]
    with session():
        rows = score(records_to_table(judged_by("6", records), Letters()), config("tool")).to_pylist()
    assert [(row["correct"], row["grader"], row["reward"]) for row in rows] == [(True, "7", 1.0), (False, "7", -1.0)]
