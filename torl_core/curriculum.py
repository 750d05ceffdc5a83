"""Which problems a step sees. The cursor is a function of the step, so a resumed campaign neither skips nor repeats."""

from __future__ import annotations

import numpy as np

from torl_core.errors import ConfigError


def problem_indices(total: int, per_step: int, step: int, seed: int) -> list[int]:
    """The `per_step` problems of 1-based `step`: the next places of the current epoch's own shuffle.

    What is left when an epoch no longer fills a step sits that epoch out. Raises ConfigError when there are fewer
    problems than a step needs.
    """
    if total < per_step:
        raise ConfigError(
            f"there are {total} usable problems and rollout.problems_per_step is {per_step}",
            "a step's groups are of different problems",
            "give more problems or lower rollout.problems_per_step",
        )
    epoch, place = divmod(step - 1, total // per_step)
    order = np.random.default_rng((seed, epoch)).permutation(total)
    chosen: list[int] = order[place * per_step : (place + 1) * per_step].tolist()
    return chosen
