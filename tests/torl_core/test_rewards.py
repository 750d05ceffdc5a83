"""Rewards are named terms whose sum is the value."""

import pytest

from torl_core.config import RewardConfig
from torl_core.rewards import reward
from torl_core.types import CallStatus, Grade, Reward

PAPER = RewardConfig()
FINED = RewardConfig(code_error=-0.5)


def grade(correct: bool | None) -> Grade:
    return Grade(correct, "5", "hand-written")


@pytest.mark.parametrize(("correct", "value"), [(True, 1.0), (False, -1.0)])
def test_correctness_alone_by_default(correct: bool, value: float) -> None:
    given = reward(grade(correct), ["error"], PAPER)
    assert given == Reward({"correctness": value})
    assert given.value == value


@pytest.mark.parametrize("statuses", [("ok",), ("ok", "error")])
def test_ungraded_has_no_reward(statuses: tuple[CallStatus, ...]) -> None:
    assert reward(grade(None), statuses, FINED) is None


@pytest.mark.parametrize("status", ["error", "timeout", "memory", "output_limit", "crash"])
def test_every_failure_is_fined_once(status: CallStatus) -> None:
    given = reward(grade(True), [status, status], FINED)
    assert given == Reward({"correctness": 1.0, "executability": -0.5})
    assert given.value == 0.5


def test_fault_9_no_call_is_no_failing_call() -> None:
    assert reward(grade(False), [], FINED) == Reward({"correctness": -1.0, "executability": 0.0})


def test_fault_9_any_failed_call_counts_whatever_follows() -> None:
    assert reward(grade(True), ["error", "ok"], FINED) == reward(grade(True), ["ok", "error"], FINED)
    assert reward(grade(True), ["ok", "ok"], FINED) == Reward({"correctness": 1.0, "executability": 0.0})


def test_fault_13_other_reward_values_leave_correctness_readable() -> None:
    given = reward(grade(True), ["error"], RewardConfig(correct=2.0, wrong=-3.0, code_error=-2.5))
    assert given == Reward({"correctness": 2.0, "executability": -2.5})
    assert given.value == -0.5
