import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.curriculum import problem_indices
from torl_core.errors import ConfigError


@given(st.integers(1, 60), st.data(), st.integers(0, 5))
def test_an_epoch_never_repeats_a_problem_and_a_step_is_always_full(total: int, data: st.DataObject, seed: int) -> None:
    per_step = data.draw(st.integers(1, total))
    steps_per_epoch = total // per_step
    first = data.draw(st.integers(0, 3)) * steps_per_epoch
    epoch = [problem_indices(total, per_step, first + k, seed) for k in range(1, steps_per_epoch + 1)]
    seen = [i for step in epoch for i in step]
    assert all(len(step) == per_step for step in epoch)
    assert len(set(seen)) == len(seen)
    assert all(0 <= i < total for i in seen)


def test_the_cursor_depends_on_the_step_alone_and_epochs_differ() -> None:
    assert problem_indices(100, 10, 7, seed=1) == problem_indices(100, 10, 7, seed=1)
    assert problem_indices(100, 10, 1, seed=1) != problem_indices(100, 10, 11, seed=1)
    assert problem_indices(100, 10, 1, seed=1) != problem_indices(100, 10, 1, seed=2)


def test_too_few_problems_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"3 usable problems and rollout.problems_per_step is 4"):
        problem_indices(3, 4, 1, seed=0)
