"""Sample a step's trajectories from a policy, executing the code it writes while it is still generating."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from infra.problems import get_problems
from infra.progress import bar
from infra.resources import current
from infra.storage import CampaignStore, Record, Ref, Store, records_to_table
from tasks.execute import TaskSandbox
from tasks.shards import Shards
from tasks.step import Rollouts, Stopwatch, step_task
from torl_core.codec import HfCodec
from torl_core.config import CampaignConfig, ToolConfig
from torl_core.curriculum import chosen_problems
from torl_core.prompts import make_prompt
from torl_core.protocols import Sampling, Sandbox
from torl_core.rollout import Attempt, roll_out
from torl_core.types import Policy, Problem, Trajectory


@step_task
def rollout(config: CampaignConfig, step: int, policy: Policy, problems: Ref) -> Rollouts:
    """One step's groups, stored as they were sampled. Raises EngineError, SandboxUnavailable, StoreError."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    chosen = chosen_problems(config, get_problems(store.store, problems), step)
    prefix = f"{config.name}-{step:06d}"
    samples, shards = config.rollout.samples_per_problem, Shards(config, store, step, policy, problems)
    records, codec = sample(config, policy, chosen, prefix, samples, config.tool, shards=shards)
    return Rollouts(store.put_staging(step, records_to_table(records, codec)), watch.lap())


def sample(
    config: CampaignConfig,
    policy: Policy,
    problems: Sequence[Problem],
    prefix: str,
    samples: int,
    tool: ToolConfig,
    temperature: float | None = None,
    shards: Shards | None = None,
) -> tuple[list[Record], HfCodec]:
    """`samples` responses to each problem, group by group, ids beginning with `prefix`; greedy at temperature 0.

    What `shards` hold of an earlier attempt is not sampled again, and they take what is sampled now.
    """
    warm = current()
    weights = Store.open(config.store).fetch_folder(policy.weights_uri, policy.digest)
    codec = warm.codec(weights)
    heat = config.rollout.temperature if temperature is None else temperature
    attempts, owners = [], {}
    for i, problem in enumerate(problems):
        prompt = make_prompt(problem, config.rollout.template, codec)
        for k in range(samples):
            attempts.append(Attempt(prompt, f"{prefix}-{i:04d}-{k:02d}", f"{prefix}-{i:04d}"))
            owners[attempts[-1].trajectory_id] = problem
    records = {r.trajectory.trajectory_id: r for r in shards.stored()} if shards else {}
    missing = [attempt for attempt in attempts if attempt.trajectory_id not in records]
    sampling = Sampling(heat, config.rollout.top_p if heat else 1.0, config.seed)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            engine, pool = await asyncio.gather(warm.engine(config, policy, weights), _open_pool(config, tool))
            sandbox = await stack.enter_async_context(TaskSandbox(pool)) if pool else None
            progress = stack.enter_context(bar("  rollout", len(attempts), transient=True))

            def done(trajectory: Trajectory) -> None:
                record = Record(trajectory, owners[trajectory.trajectory_id])
                records[trajectory.trajectory_id] = record
                progress.update(len(records))
                if shards:
                    shards.add(record, codec)

            try:
                await roll_out(missing, engine, sandbox, codec, config.rollout, tool, sampling, done)
            except BaseException:
                if shards:
                    shards.rescue(codec)
                raise
            if shards:
                await shards.settle()

    if missing:
        warm.run(run())
    return [records[attempt.trajectory_id] for attempt in attempts], codec


async def _open_pool(config: CampaignConfig, tool: ToolConfig) -> Sandbox | None:
    return await current().sandbox(config.sandbox) if tool.max_calls else None
