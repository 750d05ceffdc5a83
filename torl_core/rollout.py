"""One episode as a generator without I/O, and the driver that runs thousands of them at once."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from torl_core import protocols
from torl_core.config import NEWEST_DIALECT, RolloutConfig, ToolConfig
from torl_core.errors import ConfigError, EngineError
from torl_core.protocols import Codec, Execute, Generate, Generated, Sampling
from torl_core.session import with_earlier
from torl_core.tool_calls import CALL_MARK, call_end, code_of, framed, observation, read
from torl_core.trajectory import TrajectoryBuilder
from torl_core.types import Prompt, Stop, Timing, ToolCall, Trajectory

Steps = Generator[Generate | Execute, Generated | ToolCall | None, Trajectory]
"""Requests out, answers in (None only to start), the trajectory at the end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trajectory to make: `group_id` is shared by the attempts whose rewards are compared."""

    prompt: Prompt
    trajectory_id: str
    group_id: str


MOST_EMPTY_MARKS = 8
"""Call marks without a block, in one response, after which generation no longer stops at marks (dialect 2). Each costs
a request to the engine, so that a model which repeats the mark would cost one request for every few tokens."""


def episode(attempt: Attempt, tool: ToolConfig, max_new_tokens: int, codec: Codec) -> Steps:
    """Yields what it needs next, is sent the answer, and returns the trajectory (httpx's auth flows have this shape).

    - A request for `Generate` asks for no more than what is left of `max_new_tokens`, which tool output spends as well.
    - Up to C calls are executed. Past C no stop string is set: the model goes on in text, its requests are counted.
    - A mark without a new block is not a call; the model goes on behind it. After `MOST_EMPTY_MARKS` of them it goes on
      as past C.
    - Tool output that does not fit is cut to what does, and the response ends there with stop="length". Code requested
      with the very last token is not executed, because nothing of it could be shown.

    Raises EngineError when an answer breaks the engine's contract.
    """
    builder = TrajectoryBuilder(attempt.prompt, max_new_tokens)
    dialect = tool.dialect or NEWEST_DIALECT
    policy_version: int | None = None
    discarded = empty_marks = 0
    stop: Stop | None = None
    while stop is None:
        may_call = len(builder.tool_calls) < tool.max_calls and (dialect == 1 or empty_marks < MOST_EMPTY_MARKS)
        request = Generate(builder.context, builder.remaining, (CALL_MARK,) if may_call else ())
        answer = _checked(request, (yield request), attempt.trajectory_id, policy_version)
        policy_version = answer.policy_version
        kept, called = _kept_tokens(request, answer, codec)
        builder.append_sampled(answer.token_ids[:kept], answer.logprobs[:kept])
        discarded += len(answer.token_ids) - kept
        if answer.token_ids[kept - 1] in codec.end_token_ids:
            stop = "end"
        elif builder.remaining == 0:
            stop = "length"
        elif not called and answer.finish != "stop":
            raise _stopped_short(request, answer, attempt.trajectory_id)
        elif called:
            after_mark = codec.decode(answer.token_ids[:kept]).partition(CALL_MARK)[2]
            requests = read(codec.decode(builder.model_run).removesuffix(after_mark), dialect).requests
            if not requests:
                empty_marks += 1
            else:
                code, blocks = code_of(requests[-1], tool)
                call = yield Execute(with_earlier(builder.tool_calls, code) if tool.session else code)
                if not isinstance(call, ToolCall):
                    raise TypeError(f"Execute is answered with a ToolCall, not {type(call).__name__}")
                call = replace(call, code=code, blocks=blocks)
                shown = codec.encode(framed(observation(call, tool, codec), after_mark))
                builder.append_observation(call, shown[: builder.remaining])
                stop = None if builder.remaining else "length"
    refused = 0 if may_call else len(read(codec.decode(builder.model_run), dialect).requests)
    assert policy_version is not None
    return builder.finish(attempt.trajectory_id, attempt.group_id, policy_version, stop, refused, discarded, dialect)


def _checked(
    request: Generate, answer: Generated | ToolCall | None, trajectory_id: str, policy_version: int | None
) -> Generated:
    """Refuse what would put an infrastructure failure into the data."""
    if not isinstance(answer, Generated):
        raise TypeError(f"Generate is answered with Generated, not {type(answer).__name__}")
    if (
        not answer.token_ids
        or len(answer.token_ids) != len(answer.logprobs)
        or not all(map(math.isfinite, answer.logprobs))
    ):
        raise EngineError(
            f"the engine returned {len(answer.token_ids)} tokens with log-probabilities {answer.logprobs[:8]} for a "
            f"request of {request.max_new_tokens} ({trajectory_id})",
            "an answer holds at least one token and one finite log-probability for each",
            "run the conformance suite on this engine",
            retryable=False,
        )
    if policy_version not in (None, answer.policy_version):
        raise EngineError(
            f"{trajectory_id} was sampled by policies {policy_version} and {answer.policy_version}",
            "one policy samples the whole of a trajectory",
            "load new weights only while no episode is in flight",
        )
    return answer


def _kept_tokens(request: Generate, answer: Generated, codec: Codec) -> tuple[int, bool]:
    """How many tokens belong to the response, and whether the last of them completes the call mark.

    An engine that keeps its contract returns no more; what one returns beyond is not part of the response.
    """
    ids = answer.token_ids[: request.max_new_tokens]
    end = next((n for n, i in enumerate(ids, start=1) if i in codec.end_token_ids), len(ids))
    mark = call_end(ids[:end], codec) if request.stop else None
    return (end, False) if mark is None else (mark, True)


def _stopped_short(request: Generate, answer: Generated, trajectory_id: str) -> EngineError:
    return EngineError(
        f"the engine ended with {answer.finish!r} after {len(answer.token_ids)} of {request.max_new_tokens} tokens, "
        f"the last one {answer.token_ids[-1]}, behind a context of {len(request.token_ids)} ({trajectory_id})",
        "a response ends with an end-of-text token of the model folder, or with its token budget",
        "raise engine.max_model_len to the longest prompt plus rollout.max_new_tokens, and check that "
        "generation_config.json names every end-of-text token",
        retryable=False,
    )


async def roll_out(
    attempts: Sequence[Attempt],
    engine: protocols.Generator,
    sandbox: protocols.Sandbox | None,
    codec: Codec,
    rollout: RolloutConfig,
    tool: ToolConfig,
    sampling: Sampling,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Trajectories in the order of `attempts`, each going on as soon as its own answer is there.

    Of `rollout` it uses `max_new_tokens` and `max_concurrency`; `sampling` is separate so that evaluation can be
    greedy, and its seed, with trajectory id and turn, decides every draw. `sandbox` may be None at C = 0. `on_done` is
    called as each trajectory ends, in the order of ending. The first error cancels everything in flight and is raised
    as it is, with nothing returned.
    """
    if sandbox is None and tool.max_calls > 0:
        raise ConfigError(
            f"tool.max_calls is {tool.max_calls} and there is no sandbox",
            "calls are executed in a sandbox",
            "give one, or set tool.max_calls to 0",
        )
    done: list[Trajectory | None] = [None] * len(attempts)
    waiting = iter(enumerate(attempts))

    async def work() -> None:
        for index, attempt in waiting:
            steps = episode(attempt, tool, rollout.max_new_tokens, codec)
            trajectory = await _drive(steps, attempt.trajectory_id, engine, sandbox, sampling)
            done[index] = trajectory
            if on_done is not None:
                on_done(trajectory)

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(rollout.max_concurrency, len(attempts))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        failure = errors.exceptions[0]
    if failure is not None:  # raised out here, so that its own cause stays and the group is not added to it
        raise failure
    return [trajectory for trajectory in done if trajectory is not None]


async def _drive(
    steps: Steps,
    trajectory_id: str,
    engine: protocols.Generator,
    sandbox: protocols.Sandbox | None,
    sampling: Sampling,
) -> Trajectory:
    """Answer one episode's requests until it returns, and note where its time went."""
    started = perf_counter()
    generate_s = execute_s = 0.0
    turn = 0
    answer: Generated | ToolCall | None = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as ended:
            trajectory: Trajectory = ended.value
            break
        asked = perf_counter()
        if isinstance(request, Generate):
            answer = await engine.generate(
                request, replace(sampling, seed=generation_seed(sampling.seed, trajectory_id, turn))
            )
            generate_s += perf_counter() - asked
            turn += 1
        else:
            assert sandbox is not None
            answer = await sandbox.execute(request.code)
            execute_s += perf_counter() - asked
    return replace(trajectory, timing=Timing(generate_s, execute_s, perf_counter() - started))


def generation_seed(seed: int | None, trajectory_id: str, turn: int) -> int | None:
    """The seed of the `turn`-th generation: stable over processes and machines, below 2**63 as every engine accepts."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}/{trajectory_id}/{turn}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
