"""GRPO's group-relative advantages (arXiv 2402.03300, section 4.1.2). Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from torl_core.errors import DataError


def group_advantages(
    rewards: Sequence[float | None], *, normalise_by_std: bool = True, epsilon: float = 1e-6
) -> tuple[float | None, ...]:
    """Advantages (G) of one group's responses from their rewards (G).

    A_i = (r_i - mean) / (std + epsilon), with the unbiased standard deviation; without `normalise_by_std` the division
    is left out (Dr. GRPO, arXiv 2503.20783). A reward of None was not graded: it has no advantage and no part in mean
    and std. Equal rewards, and a lone one, say nothing about which response was better: 0. Raises DataError for a
    reward that is not finite.
    """
    graded = [r for r in rewards if r is not None]
    bad = [r for r in graded if not math.isfinite(r)]
    if bad:
        raise DataError(f"A reward is {bad[0]}", "Rewards are finite numbers", "Correct the reward terms")
    if not graded or min(graded) == max(graded):
        return tuple(None if r is None else 0.0 for r in rewards)
    values = np.asarray(graded, dtype=np.float64)
    centred = values - values.mean()
    scaled = iter(centred / (values.std(ddof=1) + epsilon) if normalise_by_std else centred)
    return tuple(None if r is None else float(next(scaled)) for r in rewards)
