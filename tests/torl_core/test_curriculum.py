from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.curriculum import problem_indices
from torl_core.errors import ConfigError


def pool(total: int, per_step: int, step: int, seed: int) -> list[int]:
    return problem_indices(["any"] * total, per_step, step, seed, {})


@given(st.integers(1, 60), st.data(), st.integers(0, 5))
def test_an_epoch_never_repeats_a_problem_and_a_step_is_always_full(total: int, data: st.DataObject, seed: int) -> None:
    per_step = data.draw(st.integers(1, total))
    steps_per_epoch = total // per_step
    first = data.draw(st.integers(0, 3)) * steps_per_epoch
    epoch = [pool(total, per_step, first + k, seed) for k in range(1, steps_per_epoch + 1)]
    seen = [i for step in epoch for i in step]
    assert all(len(step) == per_step for step in epoch)
    assert len(set(seen)) == len(seen)
    assert all(0 <= i < total for i in seen)


def test_the_cursor_depends_on_the_step_alone_and_epochs_differ() -> None:
    assert pool(100, 10, 7, seed=1) == pool(100, 10, 7, seed=1)
    assert pool(100, 10, 1, seed=1) != pool(100, 10, 11, seed=1)
    assert pool(100, 10, 1, seed=1) != pool(100, 10, 1, seed=2)


def test_the_order_is_that_of_campaigns_which_are_stored_already() -> None:
    """numpy.random.default_rng((seed, epoch)).permutation(7), three at a time: the third step is of epoch 1."""
    assert [pool(7, 3, step, seed=5) for step in (1, 2, 3)] == [[1, 4, 2], [3, 6, 5], [4, 2, 0]]


def test_too_few_problems_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"3 usable problems and rollout.problems_per_step is 4"):
        pool(3, 4, 1, seed=0)


# --- several sources with weights

SOURCES = ["math", "gsm8k"] * 10 + ["math"] * 20
"""30 problems of math, 10 of gsm8k."""


def shares(weights: dict[str, float], per_step: int, steps: int) -> list[dict[str, int]]:
    """How many problems of each source each step has."""
    chosen = [problem_indices(SOURCES, per_step, step, 3, weights) for step in range(1, steps + 1)]
    assert all(len(set(step)) == per_step for step in chosen)
    return [dict(Counter(SOURCES[i] for i in step)) for step in chosen]


def test_weights_are_the_shares_of_every_step() -> None:
    assert shares({"math": 3, "gsm8k": 1}, 8, 3) == [{"math": 6, "gsm8k": 2}] * 3
    assert shares({"math": 0.5, "gsm8k": 0.5}, 4, 3) == [{"math": 2, "gsm8k": 2}] * 3


def test_shares_that_do_not_divide_even_out_over_the_steps() -> None:
    third = shares({"math": 2, "gsm8k": 1}, 4, 3)
    assert sum((Counter(step) for step in third), Counter()) == {"math": 8, "gsm8k": 4}
    rare = shares({"math": 0.9, "gsm8k": 0.1}, 2, 10)
    assert sum((Counter(step) for step in rare), Counter()) == {"math": 18, "gsm8k": 2}


def test_a_source_is_seen_whole_before_any_of_it_comes_again() -> None:
    weights = {"math": 1, "gsm8k": 1}
    chosen = [problem_indices(SOURCES, 10, step, 3, weights) for step in (1, 2, 3, 4, 5, 6)]
    of_gsm8k = [[i for i in step if SOURCES[i] == "gsm8k"] for step in chosen]
    for first, second in zip(of_gsm8k[::2], of_gsm8k[1::2], strict=True):  # five of ten in each step
        assert len({*first, *second}) == 10
    assert of_gsm8k[0] != of_gsm8k[2]
    assert len({i for step in chosen for i in step if SOURCES[i] == "math"}) == 30


def test_without_weights_sources_are_one_pool() -> None:
    assert problem_indices(SOURCES, 8, 2, 3, {}) == pool(40, 8, 2, 3)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"math": 1}, r"weights names math, and the sources of the problems are gsm8k \(10\), math \(30\)"),
        ({"math": 1, "gsm8k": 1, "aime": 1}, "weights names aime, gsm8k, math, and"),
        ({"math": 1, "gsm8k": 3}, "source 'gsm8k' has 10 usable problems and a step takes 12 of them"),
    ],
)
def test_weights_that_do_not_fit_the_problems_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        problem_indices(SOURCES, 16, 1, 0, weights)
