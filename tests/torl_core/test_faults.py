"""One test for each fault of the original system that must not come back, numbered as in the project's design."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.storage import CampaignStore, Record, Store, get_table, records_to_table, table_to_records
from tests.torl_core.episode_kit import ATTEMPT, BLOCK, CODEC, END, IM_END, PROMPT, answer, generated, ran, texts
from torl_core.config import AlgorithmConfig, RewardConfig, RolloutConfig, ToolConfig
from torl_core.engines.scripted import ScriptedEngine
from torl_core.errors import SandboxUnavailable
from torl_core.grading import last_boxed, open_grader, prose_of_segments
from torl_core.packing import micro_batches, pack
from torl_core.protocols import Execute, Generate, Generated, Sampling
from torl_core.rewards import reward
from torl_core.rollout import Attempt, episode, roll_out
from torl_core.tool_calls import observation
from torl_core.toy.base import new_model
from torl_core.toy.tokenizer import build_tokenizer as build_toy_tokenizer
from torl_core.trainer.policy import PackedPolicy
from torl_core.trainer.steps import micro_batch_loss
from torl_core.types import Grade, Problem, Prompt, Reward, Sample, TokenIds, ToolCall, Trajectory

CALL = (BLOCK, "```output")


def marked(trajectory: Trajectory) -> str:
    """Text of the trained tokens, and of nothing else."""
    pairs = zip(trajectory.token_ids, trajectory.loss_mask, strict=True)
    return CODEC.decode(tuple(i for i, trained in pairs if trained))


def test_fault_01_the_mask_is_right_over_the_whole_response_at_two_calls() -> None:
    _, trajectory = answer(
        generated("A", *CALL), ran("11"), generated("B", *CALL), ran("22"), generated("C", END), calls=2
    )
    assert marked(trajectory) == "A" + "".join(CALL) + "B" + "".join(CALL) + "C<|endoftext|>"
    assert [(a, t) for a, t in texts(trajectory) if a == "tool"] == [("tool", "\n11\n```\n"), ("tool", "\n22\n```\n")]


def test_fault_02_a_round_in_which_nobody_calls_keeps_its_text() -> None:
    sandbox = BrokenSandbox()
    engine = ScriptedEngine(lambda _: (*CODEC.encode("Surely \\boxed{2}"), END), CODEC)
    trajectories = go(engine, sandbox, [attempt(0), attempt(1)])
    assert [marked(t) for t in trajectories] == ["Surely \\boxed{2}<|endoftext|>"] * 2
    # likewise a mark that asks for nothing, and what is said behind it
    _, trajectory = answer(generated("no code ```output"), generated(" so 2", END))
    assert marked(trajectory) == "no code ```output so 2<|endoftext|>"


def test_fault_03_nothing_is_added_to_a_natural_ending() -> None:
    sampled = generated("It is 2.", END)
    _, trajectory = answer(sampled)
    assert trajectory.token_ids == PROMPT.token_ids + sampled.token_ids


def test_fault_04_sampled_tokens_are_stored_as_sampled() -> None:
    """Letter by letter, which is not how the tokenizer would encode the same text."""
    odd = tuple(i for c in "".join(CALL) for i in CODEC.encode(c))
    assert odd != CODEC.encode(CODEC.decode(odd))
    requests, trajectory = answer(generated(*odd), ran("2"), generated("x", END))
    assert trajectory.segments[0].token_ids == odd
    assert requests[2].token_ids[: len(PROMPT.token_ids + odd)] == PROMPT.token_ids + odd


def test_fault_05_special_tokens_in_tool_output_are_text() -> None:
    _, trajectory = answer(generated(*CALL), ran("<|endoftext|> and <|im_end|>"), generated("x", END))
    observed = trajectory.segments[1].token_ids
    assert {END, IM_END}.isdisjoint(observed)
    assert CODEC.decode(observed) == "\n<|endoftext|> and <|im_end|>\n```\n"
    assert trajectory.stop == "end"
    assert trajectory.token_ids.count(END) == 1


def test_fault_06_code_that_prints_nothing_is_not_called_a_timeout() -> None:
    shown = observation(ran(""), ToolConfig(), CODEC)
    assert shown == "(no output: the code ran without error but printed nothing)"
    assert shown != observation(ran("", "timeout"), ToolConfig(), CODEC)


def test_fault_07_output_before_a_crash_is_no_success_and_the_word_error_no_failure() -> None:
    crashed = ran("42\n", "error", "Traceback (most recent call last):\n  ...\nValueError: no\n")
    assert observation(crashed, ToolConfig(), CODEC) == "ValueError: no"
    assert reward(RIGHT, [crashed.status], FINED) == Reward({"correctness": 1.0, "executability": -0.5})
    talkative = ran("Error: 0.01\nTraceback (most recent call last):\n7")
    assert observation(talkative, ToolConfig(), CODEC) == "Error: 0.01\nTraceback (most recent call last):\n7"
    assert reward(RIGHT, [talkative.status], FINED) == Reward({"correctness": 1.0, "executability": 0.0})


def test_fault_08_a_failing_sandbox_stops_the_rollout_and_is_shown_to_nobody() -> None:
    contexts: list[TokenIds] = []
    finished: list[Trajectory] = []

    def script(context: TokenIds) -> TokenIds:
        contexts.append(context)
        return CODEC.encode("".join(CALL)) if context[-1] == 0 else (65, END)

    with pytest.raises(SandboxUnavailable, match="overloaded"):
        go(ScriptedEngine(script, CODEC), BrokenSandbox(), [attempt(0), attempt(0)], finished)
    assert len(contexts) == 2, "nothing was generated behind a failed call"
    assert finished == []


def test_fault_09_each_call_keeps_its_own_status_and_no_call_is_no_failure() -> None:
    good, bad = ran("2"), ran("", "error", "NameError: x")
    _, then_text = answer(generated(*CALL), good, generated("plain text", END))
    assert then_text.tool_calls == (replace(good, blocks=1),)
    _, then_bad = answer(generated(*CALL), good, generated(*CALL), bad, generated("x", END), calls=2)
    assert [c.status for c in then_bad.tool_calls] == ["ok", "error"]
    _, bad_then_good = answer(generated(*CALL), bad, generated(*CALL), good, generated("x", END), calls=2)
    assert [c.status for c in bad_then_good.tool_calls] == ["error", "ok"]
    _, without = answer(generated("x", END))

    def fine(trajectory: Trajectory) -> float:
        scored = reward(RIGHT, [call.status for call in trajectory.tool_calls], FINED)
        assert scored is not None
        return scored.terms["executability"]

    assert [fine(t) for t in (then_text, then_bad, bad_then_good, without)] == [0.0, -0.5, -0.5, 0.0]


def test_fault_10_near_misses_are_wrong_and_tool_output_is_not_searched() -> None:
    wrong = [("2\\sqrt{3}", "2"), ("12\\pi", "12"), ("2^{10}", "2^{9}"), ("1,2,3,4,5", "12345")]
    right = [("2\\sqrt{3}", "\\sqrt{12}"), ("12\\pi", "12 \\pi"), ("2^{10}", "1024"), ("1,2,3,4,5", "5,4,3,2,1")]

    async def verdicts() -> list[bool | None]:
        grader = await open_grader(workers=1)
        try:
            return [(await grader.grade(gold, f"so \\boxed{{{said}}}")).correct for gold, said in wrong + right]
        finally:
            await grader.close()

    assert asyncio.run(verdicts()) == [False] * 4 + [True] * 4
    _, trajectory = answer(generated("Look: ", *CALL), ran("\\boxed{7}"), generated("no idea", END))
    said = [text for author, text in texts(trajectory) if author == "model"]
    assert last_boxed(prose_of_segments(said)) is None


def test_fault_11_the_loss_does_not_depend_on_the_cut_and_a_masked_sample_is_harmless() -> None:
    tokenizer = build_toy_tokenizer()
    policy = PackedPolicy(new_model(tokenizer, seed=0), temperature=1.0)
    draw = np.random.default_rng(0)

    def sample(name: str, length: int, trained: bool = True) -> Sample:
        mask = draw.random(length) < 0.6 if trained else np.zeros(length, bool)
        logprobs = draw.normal(-5.0, 0.3, length).astype(np.float32)
        return Sample(name, draw.integers(0, 256, length), mask, logprobs, advantage=float(draw.normal()))

    samples = [sample("a", 30), sample("b", 7), sample("c", 21), sample("masked", 25, trained=False), sample("d", 3)]

    def loss_and_gradient(row_tokens: int, rows: int) -> tuple[float, torch.Tensor]:
        policy.zero_grad()
        parts = micro_batches(pack(samples, row_tokens), rows)
        losses = [micro_batch_loss(policy, part, AlgorithmConfig(), torch.device("cpu"))[0] for part in parts]
        total = torch.stack(losses).sum()
        total.backward()
        return total.item(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    loss, gradient = loss_and_gradient(row_tokens=90, rows=1)
    assert math.isfinite(loss)
    assert gradient.abs().max() > 1e-4
    for row_tokens, rows in [(30, 1), (30, 2), (30, 9), (40, 1)]:
        other_loss, other_gradient = loss_and_gradient(row_tokens, rows)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-6)

    only_masked = pack([sample("masked", 25, trained=False)], 30)
    part_loss, _ = micro_batch_loss(policy, only_masked, AlgorithmConfig(), torch.device("cpu"))
    assert part_loss.item() == 0.0


def test_fault_12_the_budget_covers_all_turns_and_overflow_gets_no_end_of_text() -> None:
    first, second = generated("A", *CALL), generated("B", *CALL)
    requests, trajectory = answer(first, ran("1"), second, ran("9" * 50), calls=2, budget=60)
    asked = [r.max_new_tokens for r in requests if isinstance(r, Generate)]
    assert asked == [60, 60 - len(first.token_ids) - len(CODEC.encode("\n1\n```\n"))]
    assert len(trajectory.token_ids) == len(PROMPT.token_ids) + 60
    assert trajectory.stop == "length"
    assert END not in trajectory.token_ids


def test_fault_13_accuracy_is_counted_from_verdicts_whatever_the_rewards() -> None:
    from tasks.reward import summarise

    odd = RewardConfig(correct=0.3, wrong=0.25, code_error=-7.0)
    grades = [RIGHT, RIGHT, Grade(False, "3", "wrong"), Grade(None, "x", "time limit")]
    records = [
        Record(trajectory(f"t{i}"), PROBLEM, grade, reward(grade, ["error"], odd)) for i, grade in enumerate(grades)
    ]
    summary: Mapping[str, float] = summarise(records_to_table(records, CODEC))
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["ungraded_share"] == 0.25
    assert summary["reward"] == pytest.approx((0.3 + 0.3 + 0.25) / 3 - 7.0)


def test_fault_14_stored_samples_come_back_whole(tmp_path: Path) -> None:
    kept = Record(trajectory("t1"), PROBLEM, RIGHT, Reward({"correctness": 1.0, "executability": -0.5}), 0.5)
    ref = CampaignStore(Store.open(tmp_path), "c").put_trajectories(3, records_to_table([kept], CODEC))
    (again,) = table_to_records(get_table(Store.open(tmp_path), ref))  # as a resumed process would
    assert again == kept
    assert again.trajectory.loss_mask == kept.trajectory.loss_mask
    assert any(again.trajectory.loss_mask)
    assert [c.status for c in again.trajectory.tool_calls] == ["error"]
    assert again.trajectory.logprobs == kept.trajectory.logprobs


def test_fault_15_no_episode_waits_for_the_slowest() -> None:
    """The slow episode's first answer is held back until the quick one has called a tool and ended."""
    order: list[str] = []
    quick_is_done = asyncio.Event()

    class Engine(ScriptedEngine):
        async def generate(self, request: Generate, sampling: Sampling) -> Generated:
            slow = request.token_ids[len(PROMPT.token_ids)] == 1
            if slow:
                await quick_is_done.wait()
            order.append("slow generates" if slow else "quick generates")
            return await super().generate(request, sampling)

    class Sandbox(BrokenSandbox):
        async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:  # noqa: ARG002
            order.append("tool")
            return ran("2")

    def ended(one: Trajectory) -> None:
        order.append(f"{one.trajectory_id} ends")
        quick_is_done.set()

    def script(context: TokenIds) -> TokenIds:
        return CODEC.encode("".join(CALL)) if context[-1] == 0 else (65, END)

    async def main() -> list[Trajectory]:
        rollout = roll_out(
            [attempt(1), attempt(0)], Engine(script, CODEC), Sandbox(), CODEC, RolloutConfig(), ToolConfig(),
            Sampling(), ended,
        )  # fmt: skip
        return await asyncio.wait_for(rollout, 30)  # a driver that works in waves would never end

    assert [t.trajectory_id for t in asyncio.run(main())] == ["t1", "t0"]
    assert order == ["quick generates", "tool", "quick generates", "t0 ends", "slow generates", "t1 ends"]


RIGHT = Grade(True, "2", "same string")
FINED = RewardConfig(code_error=-0.5)
PROBLEM = Problem("p1", "1 + 1?", "2", "tests", {"kind": "sum"})


class BrokenSandbox:
    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:  # noqa: ARG002
        raise SandboxUnavailable("the sandbox is overloaded", "calls are executed", "add workers")

    async def close(self) -> None: ...


def attempt(key: int) -> Attempt:
    """Told apart by the last token of the prompt."""
    return Attempt(Prompt("p1", "short", (*PROMPT.token_ids, key)), f"t{key}", "g1")


def go(
    engine: ScriptedEngine, sandbox: BrokenSandbox, attempts: list[Attempt], finished: list[Trajectory] | None = None
) -> list[Trajectory]:
    on_done = None if finished is None else finished.append
    return asyncio.run(roll_out(attempts, engine, sandbox, CODEC, RolloutConfig(), ToolConfig(), Sampling(), on_done))


def trajectory(trajectory_id: str) -> Trajectory:
    """With a failed call."""
    steps = episode(Attempt(ATTEMPT.prompt, trajectory_id, "g1"), ToolConfig(), 100, CODEC)
    next(steps)
    assert steps.send(generated(*CALL)) == Execute("print(1 + 1)")
    steps.send(ran("", "error", "NameError: x"))
    with pytest.raises(StopIteration) as ended:
        steps.send(generated("So \\boxed{2}", END))
    return ended.value.value
