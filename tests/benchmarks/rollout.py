"""Rollout time under tool latency: the streaming driver against the same episodes in wave-synchronous turns.

    python tests/benchmarks/rollout.py                   a simulated engine with continuous batching
    python tests/benchmarks/rollout.py --engine vllm     vLLM, the demo's base model, its problems, the real sandbox

Prints a markdown table. The cost of a latency is the time beyond the same driver's at 0 ms in the same round, median
over rounds: what else the machine does drifts from round to round.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from torl_core import protocols
from torl_core.codec import HfCodec, load_codec
from torl_core.config import EngineConfig, RolloutConfig, SandboxConfig, ToolConfig
from torl_core.prompts import make_prompt
from torl_core.protocols import Codec, Execute, Generate, Generated, Sampling
from torl_core.rollout import Attempt, episode, generation_seed, roll_out
from torl_core.toy.problems import toy_problems
from torl_core.types import Finish, ToolCall, Trajectory

SAMPLES = 16
LATENCIES_S = (0.0, 0.1, 0.3)
CODE = "\n```python\nprint(6 * 7)\n```\n```output"


class SimulatedEngine:
    """Continuous batching without a model: up to `slots` sequences, first come, advance by a token every `step_s`.

    Responses are drawn from the request's seed: thinking of log-normal length, then (most of the time, where a stop
    string allows it) a call, otherwise end-of-text.
    """

    def __init__(self, codec: Codec, slots: int = 128, step_s: float = 0.01) -> None:
        self._codec, self._slots, self._step_s = codec, slots, step_s
        self._letter, self._code, self._end = codec.encode("x"), codec.encode(CODE), tuple(codec.end_token_ids)[:1]
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._clock: asyncio.Task[None] | None = None

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:
        draw = random.Random(sampling.seed)
        thinking = self._letter * round(draw.lognormvariate(4.4, 0.6))
        calls = request.stop and draw.random() < 0.8
        token_ids = (thinking + (self._code if calls else self._end))[: request.max_new_tokens]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((len(token_ids), done))
        if self._clock is None or self._clock.done():
            self._clock = asyncio.create_task(self._tick())
        await done
        finish: Finish = "length" if len(token_ids) == request.max_new_tokens else "stop" if calls else "end"
        return Generated(token_ids, (-1.0,) * len(token_ids), finish, 0)

    async def _tick(self) -> None:
        running: list[tuple[int, asyncio.Future[None]]] = []
        due = perf_counter()
        while running or self._waiting:
            while self._waiting and len(running) < self._slots:
                running.append(self._waiting.popleft())
            due = max(due + self._step_s, perf_counter())
            await asyncio.sleep(due - perf_counter())
            for left, done in running:
                if left == 1:
                    done.set_result(None)
            running = [(left - 1, done) for left, done in running if left > 1]
            await asyncio.sleep(0)

    async def load_policy(self, weights: Path, version: int) -> None: ...

    async def close(self) -> None: ...


class InstantSandbox:
    """Answers every call at once."""

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:  # noqa: ARG002
        return ToolCall(code, "ok", "42\n", "", 0.0)

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Delayed:
    """Another sandbox whose every answer takes `latency_s` longer."""

    inner: protocols.Sandbox
    latency_s: float

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        call = await self.inner.execute(code, timeout_s)
        await asyncio.sleep(self.latency_s)
        return call

    async def close(self) -> None: ...


async def roll_out_in_waves(
    attempts: Sequence[Attempt],
    engine: protocols.Generator,
    sandbox: protocols.Sandbox,
    codec: Codec,
    rollout: RolloutConfig,
    tool: ToolConfig,
    sampling: Sampling,
) -> list[Trajectory]:
    """The same episodes, turn by turn: all generate, then all calls are executed, then all generate again."""
    done: dict[int, Trajectory] = {}
    steps = [episode(attempt, tool, rollout.max_new_tokens, codec) for attempt in attempts]
    waiting: dict[int, Generate | Execute] = {i: next(s) for i, s in enumerate(steps)}
    turns = [0] * len(steps)

    def answer(i: int, reply: Generated | ToolCall) -> None:
        try:
            waiting[i] = steps[i].send(reply)
        except StopIteration as ended:
            del waiting[i]
            done[i] = ended.value

    async def generate(i: int, request: Generate) -> Generated:
        seed = generation_seed(sampling.seed, attempts[i].trajectory_id, turns[i])
        turns[i] += 1
        return await engine.generate(request, replace(sampling, seed=seed))

    while waiting:
        wave = [(i, r) for i, r in waiting.items() if isinstance(r, Generate)]
        for (i, _), reply in zip(wave, await asyncio.gather(*(generate(i, r) for i, r in wave)), strict=True):
            answer(i, reply)
        calls = [(i, r) for i, r in waiting.items() if isinstance(r, Execute)]
        for (i, _), call in zip(calls, await asyncio.gather(*(sandbox.execute(r.code) for _, r in calls)), strict=True):
            answer(i, call)
    return [done[i] for i in range(len(steps))]


Driver = Callable[..., Awaitable[list[Trajectory]]]
DRIVERS: dict[str, Driver] = {"streaming": roll_out, "waves": roll_out_in_waves}


@asynccontextmanager
async def parts(
    engine: str, model: Path | None
) -> AsyncIterator[tuple[protocols.Generator, protocols.Sandbox, HfCodec]]:
    """Warm engine and sandbox, and the codec of the demo's model."""
    if engine == "simulated":
        from torl_core.toy.tokenizer import build_tokenizer

        codec = HfCodec(build_tokenizer())
        yield SimulatedEngine(codec), InstantSandbox(), codec
        return
    from torl_core.engines import open_engine
    from torl_core.sandbox import open_sandbox
    from torl_core.toy.base import build_base

    with tempfile.TemporaryDirectory() as scratch:
        folder = model or Path(scratch) / "base"
        build_base(folder, seed=0)  # leaves a folder that is there as it is
        warm = await open_engine(EngineConfig(max_num_seqs=256), folder, 0, "float32", 0)
        sandbox = await open_sandbox(SandboxConfig())
        try:
            yield warm, sandbox, load_codec(folder)
        finally:
            await sandbox.close()
            await warm.close()


async def measure(
    engine_name: str, model: Path | None, problems: int, max_new_tokens: int, calls: int, repeats: int
) -> None:
    async with parts(engine_name, model) as (engine, sandbox, codec):
        prompts = [make_prompt(p, "short", codec) for p in toy_problems("train", problems)]
        attempts = [Attempt(p, f"{i}-{k}", f"{i}") for i, p in enumerate(prompts) for k in range(SAMPLES)]
        rollout, tool = RolloutConfig(max_new_tokens=max_new_tokens), ToolConfig(max_calls=calls)

        async def once(driver: Driver, latency_s: float, seed: int) -> tuple[float, list[Trajectory]]:
            slow = Delayed(sandbox, latency_s)
            started = perf_counter()
            trajectories = await driver(attempts, engine, slow, codec, rollout, tool, Sampling(1.0, 1.0, seed))
            return perf_counter() - started, trajectories

        await once(roll_out, 0.0, 99)  # compilation, caches and the sandbox's first forks are not measured
        times: dict[tuple[str, float], list[float]] = {}
        sampled: list[Trajectory] = []
        for seed in range(repeats):
            for latency_s in LATENCIES_S:
                for name, driver in DRIVERS.items():
                    seconds, trajectories = await once(driver, latency_s, seed)
                    times.setdefault((name, latency_s), []).append(seconds)
                    sampled += trajectories
                    print(f"{name} at {latency_s * 1000:.0f} ms: {seconds:.2f} s", file=sys.stderr)
    print(table(engine_name, len(attempts), sampled, times, repeats))


def table(
    engine: str, episodes: int, sampled: Sequence[Trajectory], times: dict[tuple[str, float], list[float]], repeats: int
) -> str:
    model_tokens = sum(sum(t.loss_mask) for t in sampled) / len(sampled)
    calls = sum(len(t.tool_calls) for t in sampled) / len(sampled)
    lines = [
        f"{episodes} episodes, {engine} engine, on average {model_tokens:.0f} sampled tokens and {calls:.2f} calls, "
        f"median of {repeats} rounds:",
        "",
        "| tool latency | streaming | cost | wave-synchronous | cost |",
        "|---|---|---|---|---|",
    ]
    for latency_s in LATENCIES_S:
        cells = [f"{latency_s * 1000:.0f} ms"]
        for name in DRIVERS:
            pairs = zip(times[name, latency_s], times[name, 0.0], strict=True)
            cost = median(slow / fast for slow, fast in pairs) - 1
            cells += [f"{median(times[name, latency_s]):.2f} s", f"{cost:+.1%}" if latency_s else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["simulated", "vllm"], default="simulated")
    parser.add_argument("--model", type=Path, help="folder of the demo's base for vLLM; built there when missing")
    parser.add_argument("--problems", type=int, default=32, help=f"each is sampled {SAMPLES} times")
    parser.add_argument("--max-new-tokens", type=int, default=None, help="1024 simulated, 64 with vLLM")
    parser.add_argument("--calls", type=int, default=1, help="C")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    budget = options.max_new_tokens or (64 if options.engine == "vllm" else 1024)
    asyncio.run(measure(options.engine, options.model, options.problems, budget, options.calls, options.repeats))


if __name__ == "__main__":
    main()
