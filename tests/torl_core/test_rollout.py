"""The episode's rules with plain tuples, its laws under hypothesis, and the driver on an event loop."""

import asyncio
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torl_core.episode_kit import (
    ATTEMPT,
    BLOCK,
    CODEC,
    END,
    IM_END,
    PROMPT,
    answer,
    generated,
    ran,
    texts,
)
from torl_core.config import RolloutConfig, ToolConfig
from torl_core.errors import ConfigError, EngineError, SandboxUnavailable
from torl_core.protocols import Execute, Generate, Generated, Sampling
from torl_core.rollout import Attempt, episode, roll_out
from torl_core.session import with_earlier
from torl_core.tool_calls import framed, observation
from torl_core.types import Prompt, TokenIds, ToolCall, Trajectory

# one rule a test


def test_an_answer_without_a_call() -> None:
    (request,), trajectory = answer(generated(" It is \\boxed{2}.", END))
    assert request == Generate(PROMPT.token_ids, 1000, ("```output",))
    assert texts(trajectory) == [("model", " It is \\boxed{2}.<|endoftext|>")]
    assert trajectory.stop == "end"
    assert trajectory.loss_mask == (False,) * len(PROMPT.token_ids) + (True,) * 18
    assert trajectory.logprobs[-1] == -18.0


def test_in_a_session_a_later_call_is_sent_with_the_earlier_ones_and_kept_as_written() -> None:
    first = replace(ran("2\n"), code="sent")
    answers = (generated(BLOCK, "```output"), first, generated(BLOCK, "```output"), first, generated("done", END))
    requests, trajectory = answer(*answers, calls=2, session=True)
    codes = [request.code for request in requests if isinstance(request, Execute)]
    assert codes == ["print(1 + 1)", with_earlier([ran("2\n")], "print(1 + 1)")]
    assert [call.code for call in trajectory.tool_calls] == ["print(1 + 1)", "print(1 + 1)"]


def test_without_a_session_every_call_starts_afresh() -> None:
    answers = (generated(BLOCK, "```output"), ran("2\n"), generated(BLOCK, "```output"), ran("2\n"))
    requests, _ = answer(*answers, generated("done", END), calls=2)
    assert [request.code for request in requests if isinstance(request, Execute)] == ["print(1 + 1)"] * 2


def test_a_call_is_executed_and_its_output_stands_in_the_context() -> None:
    requests, trajectory = answer(generated(BLOCK, "```output"), ran("2\n"), generated("So \\boxed{2}", END))
    assert requests[1] == Execute("print(1 + 1)")
    assert CODEC.decode(requests[2].token_ids) == (
        "User: 1 + 1?\nAssistant:```python\nprint(1 + 1)\n```\n```output\n2\n```\n"
    )
    assert requests[2].stop == ()
    assert texts(trajectory) == [
        ("model", BLOCK + "```output"),
        ("tool", "\n2\n```\n"),
        ("model", "So \\boxed{2}<|endoftext|>"),
    ]
    assert trajectory.tool_calls == (replace(ran("2\n"), blocks=1),)
    assert trajectory.dialect == 2
    assert trajectory.token_ids == requests[2].token_ids + CODEC.encode("So \\boxed{2}") + (END,)


def test_a_newline_sampled_with_the_mark_is_not_doubled() -> None:
    _, trajectory = answer(generated(BLOCK[:-1], "\n```output\n"), ran("2"), generated("x", END))
    assert texts(trajectory)[:2] == [("model", BLOCK + "```output\n"), ("tool", "2\n```\n")]


def test_a_mark_without_code_is_not_a_call() -> None:
    requests, trajectory = answer(generated("It prints ```output"), generated(" 4", END))
    assert requests[1].token_ids == PROMPT.token_ids + CODEC.encode("It prints ```output")
    assert requests[1].stop == ("```output",)
    assert texts(trajectory) == [("model", "It prints ```output 4<|endoftext|>")]


def test_code_may_stand_before_a_mark_that_asked_for_nothing() -> None:
    requests, _ = answer(
        generated("see ```output"), generated("\n", BLOCK, "```output"), ran("2"), generated(END), calls=1
    )
    assert requests[2] == Execute("print(1 + 1)")


def test_a_campaign_of_dialect_1_knows_one_spelling_of_python() -> None:
    block = BLOCK.replace("```python", "```py")
    requests, trajectory = answer(generated(block, "```output"), generated(END), dialect=1)
    assert [type(r) for r in requests] == [Generate, Generate]
    assert (trajectory.dialect, trajectory.tool_calls) == (1, ())
    requests, trajectory = answer(generated(block, "```output"), ran("2"), generated(END), dialect=2)
    assert requests[1] == Execute("print(1 + 1)")
    assert (trajectory.dialect, len(trajectory.tool_calls)) == (2, 1)


def test_joined_blocks_are_executed_as_one_and_counted() -> None:
    text = "```python\nx = 1\n```\n```python\nprint(x)\n```\n```output"
    requests, trajectory = answer(generated(text), ran("1"), generated(END), blocks="joined")
    assert requests[1] == Execute("x = 1\nprint(x)")
    assert [(call.code, call.blocks) for call in trajectory.tool_calls] == [("x = 1\nprint(x)", 2)]
    requests, trajectory = answer(generated(text), ran("1"), generated(END))
    assert [(call.code, call.blocks) for call in trajectory.tool_calls] == [("print(x)", 1)]


def test_after_eight_marks_without_code_generation_no_longer_stops_at_marks() -> None:
    mark, last = generated("x ```output"), generated(" ```output " + BLOCK + "```output\n3", END)
    requests, trajectory = answer(*[mark] * 8, last)
    assert [request.stop for request in requests] == [("```output",)] * 8 + [()]
    assert trajectory.tool_calls == ()
    assert trajectory.refused_calls == 1  # counted as past C, instead of executed
    requests, _ = answer(*[mark] * 12, generated(END), dialect=1)
    assert [request.stop for request in requests] == [("```output",)] * 13


def test_marks_without_code_are_counted_over_the_whole_response() -> None:
    mark, call = generated("x ```output"), (generated(BLOCK, "```output"), ran("2"))
    requests, trajectory = answer(*[mark] * 7, *call, mark, generated(END), calls=2)
    assert [len(r.stop) for r in requests if isinstance(r, Generate)] == [1] * 9 + [0]
    assert len(trajectory.tool_calls) == 1


@dataclass
class CountingCodec:
    """Counts the tokens that are decoded."""

    decoded: int = 0
    end_token_ids: frozenset[int] = CODEC.end_token_ids

    def encode(self, text: str) -> TokenIds:
        return CODEC.encode(text)

    def decode(self, token_ids: TokenIds) -> str:
        self.decoded += len(token_ids)
        return CODEC.decode(token_ids)


@pytest.mark.parametrize("piece", ["```output", "```output\n", "``````output \n```python\n", "1 + 1 = 2\n", "`", BLOCK])
def test_the_work_of_an_episode_is_linear_in_its_tokens(piece: str) -> None:
    def work(tokens: int) -> tuple[int, int]:
        """(requests, decoded tokens) of a response that repeats `piece`."""
        codec, model = CountingCodec(), Model((CODEC.encode(piece) * tokens)[:tokens])
        steps = episode(ATTEMPT, ToolConfig(max_calls=2), tokens, codec)
        request: Any = next(steps)
        while True:
            try:
                reply = model.generate(request) if isinstance(request, Generate) else ran("2")
                request = steps.send(reply)
            except StopIteration:
                return len(model.seen), codec.decoded

    for tokens in (200, 800, 3072):
        requests, decoded = work(tokens)
        assert requests <= 2 + 8 + 1
        assert decoded <= 15 * tokens


def test_past_c_requests_are_not_executed_but_counted() -> None:
    more = BLOCK + "```output\n3\n```\n" + BLOCK + "```output\n"
    requests, trajectory = answer(generated(BLOCK, "```output"), ran("2"), generated(more, END))
    assert [type(r) for r in requests] == [Generate, Execute, Generate]
    assert requests[2].stop == ()
    assert trajectory.refused_calls == 2
    assert len(trajectory.tool_calls) == 1


def test_c_zero_never_executes() -> None:
    (request,), trajectory = answer(generated(BLOCK, "```output\n2\n```\n", END), calls=0)
    assert request.stop == ()
    assert (trajectory.tool_calls, trajectory.refused_calls) == ((), 1)


def test_c_two_executes_twice() -> None:
    requests, trajectory = answer(
        generated(BLOCK, "```output"), ran("2"), generated(BLOCK, "```output"), ran("2"), generated("x", END), calls=2
    )
    assert [type(r) for r in requests] == [Generate, Execute, Generate, Execute, Generate]
    assert [len(r.stop) for r in requests if isinstance(r, Generate)] == [1, 1, 0]
    assert trajectory.refused_calls == 0


def test_the_budget_shrinks_by_model_and_tool_tokens() -> None:
    first = generated(BLOCK, "```output")
    requests, _ = answer(first, ran("2"), generated("x", END), budget=100)
    assert requests[0].max_new_tokens == 100
    assert requests[2].max_new_tokens == 100 - len(first.token_ids) - 6  # "\n", "2", "\n", "``", "`", "\n"


def test_a_response_that_uses_up_its_budget() -> None:
    _, trajectory = answer(generated("abcd", finish="length"), budget=4)
    assert trajectory.stop == "length"
    assert texts(trajectory) == [("model", "abcd")]


def test_end_of_text_as_the_last_token_of_the_budget_is_an_end() -> None:
    _, trajectory = answer(generated("abc", END), budget=4)
    assert trajectory.stop == "end"


def test_tool_output_that_does_not_fit_is_cut_and_ends_the_response() -> None:
    first = generated(BLOCK, "```output")
    _, trajectory = answer(first, ran("123456789"), budget=len(first.token_ids) + 4)
    assert texts(trajectory)[1] == ("tool", "\n123")
    assert trajectory.stop == "length"
    assert trajectory.token_ids[-1] not in CODEC.end_token_ids
    assert len(trajectory.tool_calls) == 1


def test_tool_output_that_fits_exactly_ends_the_response() -> None:
    first = generated(BLOCK, "```output")
    _, trajectory = answer(first, ran("2"), budget=len(first.token_ids) + 6)
    assert texts(trajectory)[1] == ("tool", "\n2\n```\n")
    assert trajectory.stop == "length"


def test_code_requested_with_the_last_token_is_not_executed() -> None:
    first = generated(BLOCK, "```output")
    requests, trajectory = answer(first, budget=len(first.token_ids))
    assert len(requests) == 1
    assert (trajectory.stop, trajectory.tool_calls, trajectory.refused_calls) == ("length", (), 0)


def test_tokens_behind_the_mark_are_discarded_and_counted() -> None:
    requests, trajectory = answer(generated(BLOCK, "```output", "\n5\n", END), ran("2"), generated("x", END))
    assert requests[2].token_ids == PROMPT.token_ids + CODEC.encode(BLOCK) + CODEC.encode("```output") + CODEC.encode(
        "\n2\n```\n"
    )
    assert trajectory.discarded_tokens == 4


def test_tokens_behind_end_of_text_and_past_the_budget_are_discarded() -> None:
    _, ended = answer(generated("a", END, "bcd", finish="length"))
    assert (texts(ended), ended.discarded_tokens) == ([("model", "a<|endoftext|>")], 3)
    _, full = answer(generated("abcdef", finish="length"), budget=2)
    assert (texts(full), full.discarded_tokens, full.stop) == ([("model", "ab")], 4, "length")


def test_a_special_token_that_ends_nothing_goes_on() -> None:
    _, trajectory = answer(generated("a", IM_END, "b", END))
    assert texts(trajectory) == [("model", "a<|im_end|>b<|endoftext|>")]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Generated((), (), "length", 0), "0 tokens"),
        (Generated((65, 66), (-1.0,), "length", 0), "2 tokens"),
        (Generated((65,), (float("nan"),), "length", 0), "nan"),
        (generated("abc", finish="length"), "'length' after 3 of 1000 tokens"),
        (generated("abc", finish="end"), "'end' after 3 of 1000 tokens"),
    ],
)
def test_an_engine_that_breaks_its_contract_is_an_error_and_not_data(bad: Generated, message: str) -> None:
    steps = episode(ATTEMPT, ToolConfig(), 1000, CODEC)
    next(steps)
    with pytest.raises(EngineError, match=message):
        steps.send(bad)


def test_two_policies_in_one_trajectory_are_an_error() -> None:
    steps = episode(ATTEMPT, ToolConfig(), 1000, CODEC)
    next(steps)
    steps.send(generated(BLOCK, "```output", version=3))
    steps.send(ran("2"))
    with pytest.raises(EngineError, match="policies 3 and 4"):
        steps.send(generated("x", END, version=4))


# the laws


FRAGMENTS = [
    "```python\n", "print(1)", "\n```\n", "```", "```output", "```output\n", "``", "`", "output", "put", "\n", "out",
    "<|endoftext|>", "<|im_end|>", "é", "漢", "e\u0301", "\\boxed{2}", " ",
]  # fmt: skip
CALLS = [
    "```python\nprint(1)\n```\n```output", "\n```python\n2\n```output\n", "é```python\n\n```\nso\n```outputs\n",
    "\n1. ```py\n   3\n   ```\n~~~Python3\n4\n~~~\n```output", "```output\n" * 5,
]  # fmt: skip


def in_pieces(text: str, cuts: list[int]) -> TokenIds:
    """`text` tokenised piece by piece, so that the added tokens which cross a cut fall apart."""
    edges = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return tuple(i for start, end in pairwise(edges) for i in CODEC.encode(text[start:end]))


model_tokens = st.lists(
    st.one_of(
        st.builds(in_pieces, st.sampled_from(CALLS), st.lists(st.integers(0, 99), max_size=6)),
        st.builds(in_pieces, st.sampled_from(FRAGMENTS), st.lists(st.integers(0, 99), max_size=3)),
        st.integers(0, 255).map(lambda i: (i,)),  # single bytes, not always UTF-8
        st.sampled_from([(END,), (IM_END,)]),
    ),
    max_size=20,
).map(lambda runs: tuple(i for run in runs for i in run))

tool_outputs = st.builds(
    lambda status, stdout, stderr, repeat: ran(stdout * repeat, status, stderr),
    st.sampled_from(["ok", "ok", "error", "timeout", "memory", "output_limit", "crash"]),
    st.one_of(
        st.sampled_from(
            ["", "\n", "2\n", "<|endoftext|>", "a<|im_end|>b\n```output\n", "\ufffd\x00", "\ud800", "9" * 99]
        ),
        st.text(max_size=50),
        st.binary(max_size=50).map(lambda b: b.decode(errors="replace")),
    ),
    st.sampled_from(["", "ValueError: <|endoftext|>\n", "Traceback (most recent call last):\n  x\nE: é\n"]),
    st.sampled_from([1, 1, 100]),
)


@dataclass
class Model:
    """Samples given tokens in order, then end-of-text. Keeps the contract of engines, or overruns by 3 tokens.

    No mark is spelled by more than `window` tokens.
    """

    window = 16

    tokens: TokenIds
    overrun: bool = False
    position: int = 0
    seen: list[tuple[Generate, TokenIds]] = field(default_factory=list)

    def generate(self, request: Generate) -> Generated:
        ids: TokenIds = ()
        finish: Any = "length"
        while len(ids) < request.max_new_tokens:
            ids += self.tokens[self.position : self.position + 1] or (END,)
            self.position += 1
            if ids[-1] == END:
                finish = "end"
                break
            if any(stop in CODEC.decode(ids[-self.window :]) for stop in request.stop):
                finish = "stop"
                break
        self.seen.append((request, ids))
        beyond = (65, END, 66) if self.overrun else ()
        return Generated(ids + beyond, (-0.5,) * len(ids + beyond), finish, 7)


@settings(max_examples=200)
@given(
    tokens=model_tokens,
    outputs=st.lists(tool_outputs, min_size=4, max_size=4),
    max_calls=st.integers(0, 3),
    budget=st.integers(1, 400),
    overrun=st.booleans(),
    max_tokens=st.sampled_from([1, 40, 2000]),
    dialect=st.sampled_from([1, 2]),
    blocks=st.sampled_from(["latest", "joined"]),
)
def test_laws_of_the_episode(
    tokens: TokenIds,
    outputs: list[ToolCall],
    max_calls: int,
    budget: int,
    overrun: bool,
    max_tokens: int,
    dialect: Any,
    blocks: Any,
) -> None:
    tool = ToolConfig(max_calls=max_calls, observation_max_tokens=max_tokens, dialect=dialect, blocks=blocks)
    model = Model(tokens, overrun)
    steps = episode(ATTEMPT, tool, budget, CODEC)
    request: Generate | Execute = next(steps)
    events: list[tuple[str, TokenIds]] = []
    executed = empty_marks = 0
    codes: list[str] = []
    while True:
        reply: Generated | ToolCall
        if isinstance(request, Generate):
            empty_marks += bool(events) and events[-1][0] == "model"  # it went on behind a mark
            may_call = executed < max_calls and (dialect == 1 or empty_marks < 8)
            assert request.stop == (("```output",) if may_call else ())
            assert request.max_new_tokens == budget - sum(len(ids) for _, ids in events)
            # the engine is given exactly what it and the tool made so far
            assert request.token_ids == PROMPT.token_ids + tuple(i for _, ids in events for i in ids)
            reply = model.generate(request)
            events.append(("model", model.seen[-1][1]))
        else:
            reply = outputs[executed]
            executed += 1
            codes.append(request.code)
            after_mark = CODEC.decode(events[-1][1]).partition("```output")[2]
            shown = framed(observation(reply, tool, CODEC), after_mark)
            fits = CODEC.encode(shown)[: budget - sum(len(ids) for _, ids in events)]
            events.append(("tool", fits))
            # the text view of what fits whole comes back, in the tokenizer's normal form
            if len(fits) == len(CODEC.encode(shown)):
                plain = shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                assert CODEC.decode(fits) == unicodedata.normalize("NFC", plain)
        try:
            request = steps.send(reply)
        except StopIteration as ended:
            trajectory: Trajectory = ended.value
            break

    response = tuple(i for _, ids in events for i in ids)
    assert trajectory.token_ids == PROMPT.token_ids + response
    assert trajectory.loss_mask == (False,) * len(PROMPT.token_ids) + tuple(
        author == "model" for author, ids in events for _ in ids
    )
    assert trajectory.logprobs == tuple(-0.5 if trained else 0.0 for trained in trajectory.loss_mask)
    assert len(trajectory.tool_calls) == executed <= max_calls
    assert [call.code for call in trajectory.tool_calls] == codes
    made_of = [call.blocks for call in trajectory.tool_calls]
    assert all(made_of) if blocks == "joined" else made_of == [1] * executed
    assert [replace(call, code="", blocks=None) for call in trajectory.tool_calls] == [
        replace(call, code="") for call in outputs[:executed]
    ]
    assert len(response) <= budget
    assert trajectory.stop == ("end" if response[-1] == END else "length")
    assert trajectory.stop == "end" or len(response) == budget
    # end-of-text is in no observation and nowhere but at the end
    assert END not in response[:-1]
    assert {END, IM_END}.isdisjoint(i for author, ids in events if author == "tool" for i in ids)
    assert trajectory.discarded_tokens == (3 * len(model.seen) if overrun else 0)
    assert trajectory.policy_version == 7


# the driver


def script(*parts: str | int) -> TokenIds:
    return generated(*parts).token_ids


@dataclass
class SlowEngine:
    """Plays a token script per trajectory (told apart by the prompt's last token), each answer after its own delay."""

    scripts: dict[int, TokenIds]
    delays: dict[int, float] = field(default_factory=dict)
    fails: int | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    cancelled: int = 0
    samplings: list[tuple[int, int, Sampling]] = field(default_factory=list)

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:
        key = request.token_ids[len(PROMPT.token_ids)]
        self.samplings.append((key, len(request.token_ids), sampling))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delays.get(key, 0.0))
            if key == self.fails:
                raise EngineError("the engine died", "it lives", "start it") from OSError("pipe")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        # a scripted response has no more model tokens than the context has beyond its prompt and observations
        written = self.scripts[key]
        before = len(request.token_ids) - len(PROMPT.token_ids) - 1
        position = 0 if before == 0 else written.index(-1) + 1
        ids = written[position:]
        ids = ids[: ids.index(-1)] if -1 in ids else ids
        return Generated(ids, (-0.5,) * len(ids), "end" if ids[-1] == END else "stop", 0)

    async def load_policy(self, weights: Any, version: int) -> None: ...

    async def close(self) -> None: ...


@dataclass
class SlowSandbox:
    delay: float = 0.0
    error: Exception | None = None
    codes: list[str] = field(default_factory=list)

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:  # noqa: ARG002
        self.codes.append(code)
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return ToolCall(code, "ok", "2\n", "", self.delay)

    async def close(self) -> None: ...


WITH_CALL = (*script(BLOCK, "```output"), -1, *script("So 2", END))
PLAIN = script("It is 2", END)


def attempts(*keys: int) -> list[Attempt]:
    return [Attempt(Prompt("p", "short", (*PROMPT.token_ids, k)), f"t{k}", f"g{k // 2}") for k in keys]


def run(some: Sequence[Attempt], engine: SlowEngine, sandbox: Any = None, calls: int = 1, **options: Any) -> Any:
    return asyncio.run(
        roll_out(
            some,
            engine,
            sandbox,
            CODEC,
            RolloutConfig(max_new_tokens=200, max_concurrency=options.pop("max_concurrency", 100)),
            ToolConfig(max_calls=calls),
            options.pop("sampling", Sampling(1.0, 1.0, 5)),
            **options,
        )
    )


def test_results_keep_the_order_of_the_input_and_are_announced_as_they_end() -> None:
    engine = SlowEngine(dict.fromkeys(range(4), PLAIN), delays={0: 0.2, 1: 0.0, 2: 0.1, 3: 0.0})
    announced: list[str] = []
    trajectories = run(attempts(0, 1, 2, 3), engine, SlowSandbox(), on_done=lambda t: announced.append(t.trajectory_id))
    assert [t.trajectory_id for t in trajectories] == ["t0", "t1", "t2", "t3"]
    assert [t.group_id for t in trajectories] == ["g0", "g0", "g1", "g1"]
    assert announced[-2:] == ["t2", "t0"]
    assert set(announced) == {"t0", "t1", "t2", "t3"}


def test_calls_are_executed_and_time_is_noted() -> None:
    engine = SlowEngine({0: WITH_CALL}, delays={0: 0.05})
    sandbox = SlowSandbox(delay=0.1)
    (trajectory,) = run(attempts(0), engine, sandbox)
    assert sandbox.codes == ["print(1 + 1)"]
    assert texts(trajectory) == [
        ("model", BLOCK + "```output"), ("tool", "\n2\n```\n"), ("model", "So 2<|endoftext|>"),
    ]  # fmt: skip
    timing = trajectory.timing
    assert timing.generate_s >= 0.1
    assert timing.execute_s >= 0.1
    assert timing.total_s >= timing.generate_s + timing.execute_s


def test_no_more_than_max_concurrency_are_in_flight() -> None:
    engine = SlowEngine(dict.fromkeys(range(10), PLAIN), delays=dict.fromkeys(range(10), 0.01))
    assert len(run(attempts(*range(10)), engine, SlowSandbox(), max_concurrency=3)) == 10
    assert engine.most_in_flight == 3


def test_thousands_at_once() -> None:
    engine = SlowEngine(dict.fromkeys(range(3000), PLAIN), delays=dict.fromkeys(range(3000), 0.01))
    assert len(run(attempts(*range(3000)), engine, SlowSandbox(), max_concurrency=3000)) == 3000
    assert engine.most_in_flight == 3000


def test_the_first_engine_error_cancels_the_rest_and_is_raised_with_its_cause() -> None:
    engine = SlowEngine(dict.fromkeys(range(5), PLAIN), delays={0: 60, 1: 60, 2: 0.01, 3: 60, 4: 60}, fails=2)
    with pytest.raises(EngineError, match="the engine died") as caught:
        run(attempts(*range(5)), engine, SlowSandbox())
    assert isinstance(caught.value.__cause__, OSError)
    assert (engine.cancelled, engine.in_flight) == (4, 0)


def test_a_broken_sandbox_ends_the_rollout() -> None:
    engine = SlowEngine({0: WITH_CALL, 1: PLAIN}, delays={1: 60})
    sandbox = SlowSandbox(error=SandboxUnavailable("no worker", "calls run", "restart"))
    with pytest.raises(SandboxUnavailable, match="no worker"):
        run(attempts(0, 1), engine, sandbox)
    assert engine.in_flight == 0


def test_an_error_in_on_done_is_raised() -> None:
    def broken(_: Trajectory) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run(attempts(0), SlowEngine({0: PLAIN}), SlowSandbox(), on_done=broken)


def test_cancelling_the_rollout_cancels_what_is_in_flight() -> None:
    engine = SlowEngine({0: PLAIN, 1: PLAIN}, delays={0: 60, 1: 60})

    async def main() -> None:
        rollout = roll_out(attempts(0, 1), engine, None, CODEC, RolloutConfig(), ToolConfig(max_calls=0), Sampling())
        task = asyncio.create_task(rollout)
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert engine.cancelled == 2


def test_nothing_to_do() -> None:
    assert run([], SlowEngine({}), SlowSandbox()) == []


def test_a_sandbox_is_needed_only_where_calls_are_made() -> None:
    assert len(run(attempts(0), SlowEngine({0: PLAIN}), None, calls=0)) == 1
    with pytest.raises(ConfigError, match="max_calls is 1 and there is no sandbox"):
        run(attempts(0), SlowEngine({0: PLAIN}), None, calls=1)


def test_every_generation_has_its_own_lasting_seed() -> None:
    def draws(seed: int | None, **options: Any) -> list[Sampling]:
        engine = SlowEngine({0: WITH_CALL, 1: WITH_CALL})
        run(attempts(0, 1), engine, SlowSandbox(), sampling=Sampling(0.7, 0.9, seed), **options)
        return [sampling for _, _, sampling in sorted(engine.samplings, key=lambda s: s[:2])]

    first = draws(5)
    assert {(s.temperature, s.top_p) for s in first} == {(0.7, 0.9)}
    assert len({s.seed for s in first}) == 4
    assert all(0 <= s.seed < 2**63 for s in first if s.seed is not None)
    assert draws(5, max_concurrency=1) == first
    assert first[0].seed == 2877313485509570736  # the same on every machine
    assert {s.seed for s in draws(6)}.isdisjoint(s.seed for s in first)
    assert {s.seed for s in draws(None)} == {None}
