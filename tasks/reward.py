"""Grade a step's responses, reward them, and compare them within their groups. It reads rows, and needs no model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from infra.progress import bar
from infra.resources import current
from infra.storage import CampaignStore, Store, call_statuses, get_table, model_texts, with_verdicts
from tasks.step import Rollouts, Scored, Stopwatch, step_task
from torl_core import grading
from torl_core.advantages import group_advantages
from torl_core.config import CampaignConfig, RewardConfig
from torl_core.rewards import reward as reward_of
from torl_core.types import Grade, Reward


@step_task
def reward(config: CampaignConfig, step: int, rollouts: Rollouts) -> Scored:
    """The step's rows with grades, rewards and advantages. Raises GraderUnavailable, StoreError."""
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    scored = score(get_table(store.store, rollouts.data), config)
    return Scored(store.put_trajectories(step, scored), watch.lap(), grading.VERSION, summarise_step(scored))


def score(table: pa.Table, config: CampaignConfig) -> pa.Table:
    """A step's rows with verdicts, rewards and advantages, whatever stood there before. Raises GraderUnavailable."""
    return rewarded(table, grade_all(table), config)


def rewarded(table: pa.Table, grades: Sequence[Grade], config: CampaignConfig) -> pa.Table:
    """A step's rows with `grades` (rows), and with the rewards and advantages that follow from them."""
    rewards = rewards_of(table, grades, config.reward)
    return with_verdicts(table, grades, rewards, _advantages(table, rewards, config.algorithm.normalise_by_std))


def rewards_of(table: pa.Table, grades: Sequence[Grade], config: RewardConfig) -> list[Reward | None]:
    """(rows)"""
    statuses = call_statuses(table)
    return [reward_of(grade, ended, config) for grade, ended in zip(grades, statuses, strict=True)]


def _advantages(table: pa.Table, rewards: Sequence[Reward | None], normalise_by_std: bool) -> list[float | None]:
    """(rows) Members of a group are neighbours."""
    values = iter([given.value if given else None for given in rewards])
    groups = [[next(values) for _ in members] for _, members in groupby(_texts(table, "group_id"))]
    return [a for group in groups for a in group_advantages(group, normalise_by_std=normalise_by_std)]


def grade_all(table: pa.Table) -> list[Grade]:
    """(rows) Only what the model itself wrote, outside code, is searched for an answer."""

    async def run() -> list[Grade]:
        grader = await current().grader()
        with bar("  grading", len(table), transient=True) as progress:
            done = iter(range(1, len(table) + 1))

            async def one(gold: str, texts: Sequence[str]) -> Grade:
                verdict = await grader.grade(gold, grading.prose_of_segments(texts))
                progress.update(next(done))
                return replace(verdict, grader=grading.VERSION)

            return await asyncio.gather(*map(one, _texts(table, "gold_answer"), model_texts(table)))

    return current().run(run())


def summarise(table: pa.Table) -> Mapping[str, float]:
    """Means over the responses: accuracy and reward of what could be graded, the share that could not, the share that
    called, how many calls ran without error, and what looks like a call and is none. Where the problems are of several
    sources, also each of these by source (`accuracy/SOURCE`), with the source's share of the responses."""
    return _by_source(table, _means)


def summarise_step(table: pa.Table) -> Mapping[str, float]:
    """As `summarise`, with `signal_share`, the share of groups whose rewards differ: only these teach the policy."""
    return _by_source(table, lambda rows: {**_means(rows), "signal_share": _signal_share(rows)})


def _by_source(table: pa.Table, means: Callable[[pa.Table], Mapping[str, float]]) -> Mapping[str, float]:
    summary, sources = dict(means(table)), sorted(set(_texts(table, "source")))
    for source in sources if len(sources) > 1 else ():
        rows = table.filter(pc.equal(table.column("source"), source))
        own = {**means(rows), "response_share": len(rows) / len(table)}
        summary |= {f"{name}/{source}": value for name, value in own.items()}
    return summary


def _means(table: pa.Table) -> Mapping[str, float]:
    statuses = call_statuses(table)
    called = sum(map(bool, statuses)) / len(table)
    summary = {"ungraded_share": table.column("correct").null_count / len(table), "called_share": called}
    if ended := [status for calls in statuses for status in calls]:
        summary["pass_ratio"] = ended.count("ok") / len(ended)
    columns = {"accuracy": "correct", "reward": "reward", "unrecognised_calls": "unrecognised_calls"}
    for name, column in columns.items():
        mean = pc.mean(table.column(column)).as_py()
        summary |= {} if mean is None else {name: mean}
    return summary


def _signal_share(table: pa.Table) -> float:
    groups = table.group_by("group_id").aggregate([("reward", "min"), ("reward", "max")])
    differ = pc.not_equal(groups.column("reward_min"), groups.column("reward_max"))
    return float(pc.mean(pc.fill_null(differ, False)).as_py())


def _texts(table: pa.Table, column: str) -> list[str]:
    return list(table.column(column).to_pylist())
