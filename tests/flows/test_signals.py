"""A campaign that learns nothing says so, once on its way and once at its end."""

from collections.abc import Sequence

import pytest

from flows.signals import Signals
from tests.infra.analytics.stored_kit import config


def said(shares: Sequence[float | None]) -> tuple[dict[int, str], str | None]:
    """({step: what it said after the step}, what it said at the end); None: a step that recorded no share."""
    signals, lines = Signals(config("demo")), {}
    for step, share in enumerate(shares, start=1):
        line = signals.add(step, {"reward": -1.0} if share is None else {"reward": -1.0, "signal_share": share})
        lines |= {step: line} if line else {}
    return lines, signals.summary()


def test_six_steps_of_equal_rewards_are_said_after_the_fifth_and_counted_at_the_end() -> None:
    lines, end = said([0.0] * 6)
    assert list(lines) == [5]
    assert lines[5].startswith("demo has learned nothing in steps 1 to 5: in no group did rewards differ ")
    assert "(the mean reward of step 5 is -1). Look at accuracy" in lines[5]
    assert end == "6 of 6 steps of demo had no group with different rewards; it has learned nothing"


@pytest.mark.parametrize(
    ("shares", "when", "end"),
    [
        ([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, *[0.0] * 9], [6], "14 of 16 steps of demo had no group with different"),
        ([0.0, 0.0], [], "2 of 2 steps of demo had no group with different rewards; it has learned nothing"),
        ([0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0], [], None),
        ([0.0, 0.0, None, 0.0, 0.0, 0.0], [], None),
        ([], [], None),
    ],
)
def test_only_a_stretch_of_five_or_a_campaign_without_any_signal_is_worth_a_word(
    shares: Sequence[float | None], when: list[int], end: str | None
) -> None:
    lines, summary = said(shares)
    assert list(lines) == when
    assert (summary or "").startswith(end or "")
    assert (summary is None) == (end is None)
