import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.advantages import group_advantages
from torl_core.errors import DataError

rewards = st.lists(st.none() | st.sampled_from([-1.5, -1.0, 1.0]) | st.floats(-10, 10), min_size=1, max_size=16)


def test_one_right_of_four() -> None:
    # mean -0.5, unbiased std sqrt((1.5**2 + 3 * 0.5**2) / 3) = 1
    assert group_advantages([1, -1, -1, -1]) == pytest.approx((1.5, -0.5, -0.5, -0.5), abs=1e-5)
    assert group_advantages([1, -1, -1, -1], normalise_by_std=False) == (1.5, -0.5, -0.5, -0.5)


def test_equal_rewards_and_a_lone_one_teach_nothing() -> None:
    assert group_advantages([1, 1, 1]) == (0.0, 0.0, 0.0)
    assert group_advantages([-1]) == (0.0,)


def test_what_was_not_graded_has_no_advantage_and_no_part_in_the_others() -> None:
    assert group_advantages([1, None, -1, None, -1, -1]) == pytest.approx((1.5, None, -0.5, None, -0.5, -0.5), abs=1e-5)
    assert group_advantages([None, None]) == (None, None)


@given(rewards, st.booleans())
def test_graded_advantages_sum_to_zero_and_keep_the_order(values: list[float | None], normalise: bool) -> None:
    advantages = group_advantages(values, normalise_by_std=normalise)
    pairs = [(r, a) for r, a in zip(values, advantages, strict=True) if r is not None and a is not None]
    assert [a is None for a in advantages] == [r is None for r in values]
    assert math.isclose(sum(a for _, a in pairs), 0, abs_tol=1e-6)
    for (r1, a1), (r2, a2) in zip(sorted(pairs), sorted(pairs)[1:], strict=False):
        assert r1 == r2 or a1 <= a2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="finite"):
        group_advantages([1.0, bad])
