import pytest

from torl_core.trajectory import TrajectoryBuilder
from torl_core.types import Prompt, Segment, ToolCall

PROMPT = Prompt("p1", "short", (1, 2))
CALL = ToolCall("print(7)", "ok", "7\n", "", 0.01)


def test_segments_mask_and_logprobs_follow_the_authors() -> None:
    builder = TrajectoryBuilder(PROMPT, 10)
    builder.append_sampled((3, 4), (-0.5, -0.25))
    builder.append_observation(CALL, (5, 6, 7))
    builder.append_sampled((8,), (-1.0,))
    trajectory = builder.finish("t1", "g1", 3, "end", refused_calls=2, discarded_tokens=1, dialect=2)

    assert trajectory.token_ids == (1, 2, 3, 4, 5, 6, 7, 8)
    assert trajectory.loss_mask == (False, False, True, True, False, False, False, True)
    assert trajectory.logprobs == (0.0, 0.0, -0.5, -0.25, 0.0, 0.0, 0.0, -1.0)
    assert trajectory.tool_calls == (CALL,)
    assert (trajectory.policy_version, trajectory.stop) == (3, "end")
    assert (trajectory.refused_calls, trajectory.discarded_tokens, trajectory.dialect) == (2, 1, 2)


def test_neighbouring_runs_of_the_model_are_one_segment() -> None:
    builder = TrajectoryBuilder(PROMPT, 10)
    builder.append_sampled((3,), (-0.5,))
    builder.append_sampled((4, 5), (-1.0, -2.0))
    assert builder.model_run == (3, 4, 5)
    assert builder.finish("t", "g", 0, "length", 0, 0, 2).segments == (Segment("model", (3, 4, 5), (-0.5, -1.0, -2.0)),)


def test_the_run_of_the_model_starts_again_behind_tool_output() -> None:
    builder = TrajectoryBuilder(PROMPT, 10)
    assert builder.model_run == ()
    builder.append_sampled((3,), (-0.5,))
    builder.append_observation(CALL, (5,))
    assert builder.model_run == ()
    assert builder.context == (1, 2, 3, 5)


def test_model_and_tool_tokens_share_the_budget() -> None:
    builder = TrajectoryBuilder(PROMPT, 4)
    builder.append_sampled((3,), (-0.5,))
    builder.append_observation(CALL, (5, 6))
    assert builder.remaining == 1
    with pytest.raises(ValueError, match="2 tokens do not fit into the remaining budget of 1"):
        builder.append_sampled((7, 8), (-0.5, -0.5))
    with pytest.raises(ValueError, match="do not fit"):
        builder.append_observation(CALL, (7, 8))
    assert builder.context == (1, 2, 3, 5, 6)


def test_a_token_without_logprob_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens have 1 log-prob"):
        TrajectoryBuilder(PROMPT, 4).append_sampled((3, 4), (-0.5,))


def test_an_empty_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        TrajectoryBuilder(PROMPT, 0)
