"""What a step's summary says about its groups."""

import pytest

from infra.storage import records_to_table
from tasks.reward import summarise, summarise_step
from tests.infra.analytics.stored_kit import ANSWER, Letters, response

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
