"""Which problems a step sees. The cursor is a function of the step, so a resumed campaign neither skips nor repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError
from torl_core.types import Problem


def chosen_problems(config: CampaignConfig, problems: Sequence[Problem], step: int) -> list[Problem]:
    """Those of 1-based `step`, in the order of their groups. Raises as `problem_indices`."""
    sources, per_step = [problem.source for problem in problems], config.rollout.problems_per_step
    return [problems[i] for i in problem_indices(sources, per_step, step, config.seed, config.problems.weights)]


def problem_indices(
    sources: Sequence[str], per_step: int, step: int, seed: int, weights: Mapping[str, float]
) -> list[int]:
    """The `per_step` problems of 1-based `step`. `sources` names the source of each problem there is.

    Without weights all problems are one pool. With weights each source is a pool, and its share of the steps is its
    share of the weights. A step takes the next places of each pool's current epoch, which has a shuffle of its own;
    what is left when an epoch no longer fills the step's part sits that epoch out. Raises ConfigError where the weights
    are not those of the sources, and where a pool has fewer problems than a step takes of it.
    """
    chosen: list[int] = []
    for number, (pool, counts) in enumerate(_pools(sources, per_step, step, weights)):
        epoch, place = _cursor(counts, len(pool))
        order = np.random.default_rng((seed, epoch, number)).permutation(len(pool))
        chosen += [pool[i] for i in order[place : place + counts[-1]]]
    return chosen


def _pools(
    sources: Sequence[str], per_step: int, step: int, weights: Mapping[str, float]
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """The problems of each pool, with how many of them each step up to `step` takes."""
    if not weights:
        if len(sources) < per_step:
            raise ConfigError(
                f"there are {len(sources)} usable problems and rollout.problems_per_step is {per_step}",
                "a step's groups are of different problems",
                "give more problems or lower rollout.problems_per_step",
            )
        return [(range(len(sources)), [per_step] * step)]
    by_name: dict[str, list[int]] = {}
    for i, name in enumerate(sources):
        by_name.setdefault(name, []).append(i)
    _refuse_other_names(weights, by_name)
    names = sorted(by_name)
    counts = zip(*_shares([weights[name] for name in names], per_step, step), strict=True)
    pools = {name: (by_name[name], taken) for name, taken in zip(names, counts, strict=True)}
    for name, (pool, taken) in pools.items():
        if len(pool) < max(taken):
            raise ConfigError(
                f"source {name!r} has {len(pool)} usable problems and a step takes {max(taken)} of them, by "
                "problems.weights and rollout.problems_per_step",
                "a step's groups are of different problems",
                "give it more problems or a smaller weight, or lower rollout.problems_per_step",
            )
    return list(pools.values())


def _shares(weights: Sequence[float], per_step: int, steps: int) -> Iterator[list[int]]:
    """(steps) How many problems of each source a step takes: each place goes to the source that is furthest behind."""
    exact = [Fraction(str(weight)) for weight in weights]
    whole = [int(weight * lcm(*(one.denominator for one in exact))) for weight in exact]
    total, behind = sum(whole), [0] * len(whole)
    for _ in range(steps):
        counts = [0] * len(whole)
        for _ in range(per_step):
            behind = [owed + weight for owed, weight in zip(behind, whole, strict=True)]
            first = behind.index(max(behind))
            behind[first] -= total
            counts[first] += 1
        yield counts


def _cursor(counts: Sequence[int], total: int) -> tuple[int, int]:
    """(epoch, place) at which the last of the steps begins that take `counts` of a pool of `total`."""
    epoch = place = taken = 0
    for count in counts:
        place += taken
        if place + count > total:
            epoch, place = epoch + 1, 0
        taken = count
    return epoch, place


def _refuse_other_names(weights: Mapping[str, float], found: Mapping[str, Sequence[int]]) -> None:
    if weights.keys() != found.keys():
        there = ", ".join(f"{name} ({len(pool)})" for name, pool in sorted(found.items()))
        raise ConfigError(
            f"problems.weights names {', '.join(sorted(weights))}, and the sources of the problems are {there}",
            "with weights, every source has one, by its name",
            "name these sources in problems.weights, or give a source another `name`",
        )
