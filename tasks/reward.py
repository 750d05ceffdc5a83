"""Grade a step's responses, reward them, and compare them within their groups."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from infra.progress import bar
from infra.resources import current
from infra.storage import CampaignStore, Record, Store, get_table, records_to_table, table_to_records
from tasks.step import Rollouts, Scored, Stopwatch, step_task
from torl_core.advantages import group_advantages
from torl_core.codec import HfCodec
from torl_core.config import CampaignConfig, RewardConfig
from torl_core.grading import prose_of_segments
from torl_core.rewards import reward as reward_of
from torl_core.types import Grade, Policy


@step_task
def reward(config: CampaignConfig, step: int, policy: Policy, rollouts: Rollouts) -> Scored:
    """The step's trajectories with grades, rewards and advantages. Raises GraderUnavailable, StoreError."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    codec = current().codec(store.store.fetch_folder(policy.weights_uri, policy.digest))
    graded = grade_all(table_to_records(get_table(store.store, rollouts.data)), codec, config.reward)
    scored = _with_advantages(graded, config.algorithm.normalise_by_std)
    ref = store.put_trajectories(step, records_to_table(scored, codec))
    return Scored(ref, watch.lap(), summarise(scored))


def grade_all(records: Sequence[Record], codec: HfCodec, config: RewardConfig) -> list[Record]:
    """Only what the model itself wrote, outside code, is searched for an answer."""

    async def run() -> list[Grade]:
        grader = await current().grader()
        with bar("  grading", len(records), transient=True) as progress:
            done = iter(range(1, len(records) + 1))

            async def one(record: Record) -> Grade:
                texts = [codec.decode(s.token_ids) for s in record.trajectory.segments if s.author == "model"]
                verdict = await grader.grade(record.problem.answer, prose_of_segments(texts))
                progress.update(next(done))
                return verdict

            return await asyncio.gather(*map(one, records))

    grades = current().run(run())
    return [
        replace(record, grade=grade, reward=reward_of(grade, record.trajectory.tool_calls, config))
        for record, grade in zip(records, grades, strict=True)
    ]


def _with_advantages(records: Sequence[Record], normalise_by_std: bool) -> list[Record]:
    scored: list[Record] = []
    for _, members in groupby(records, key=lambda record: record.trajectory.group_id):
        group = list(members)
        rewards = [record.reward.value if record.reward else None for record in group]
        advantages = group_advantages(rewards, normalise_by_std=normalise_by_std)
        scored += [replace(record, advantage=a) for record, a in zip(group, advantages, strict=True)]
    return scored


def summarise(records: Sequence[Record]) -> Mapping[str, float]:
    """Accuracy and mean reward over what could be graded, and the share that could not."""
    verdicts = [record.grade.correct for record in records if record.grade and record.grade.correct is not None]
    rewards = [record.reward.value for record in records if record.reward]
    summary = {"ungraded_share": 1 - len(verdicts) / len(records)}
    if verdicts:
        summary |= {"accuracy": sum(verdicts) / len(verdicts), "reward": sum(rewards) / len(rewards)}
    called = sum(bool(record.trajectory.tool_calls) for record in records)
    return summary | {"called_share": called / len(records)}
