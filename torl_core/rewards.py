"""Grade -> Reward, itemised by named term (ToRL, section 3: +1 right, -1 wrong, optionally -0.5 for failing code)."""

from __future__ import annotations

from collections.abc import Sequence

from torl_core.config import RewardConfig
from torl_core.types import CallStatus, Grade, Reward


def reward(grade: Grade, statuses: Sequence[CallStatus], config: RewardConfig) -> Reward | None:
    """None for a response that could not be graded: it is left out of training rather than counted as wrong.

    `statuses` tells how each of the response's executed calls ended.

    The term `executability` is there exactly when it is switched on (`config.code_error` is not zero). It is 0 for a
    response all of whose executed calls ended "ok", a response without calls included.
    """
    if grade.correct is None:
        return None
    terms = {"correctness": config.correct if grade.correct else config.wrong}
    if config.code_error:
        terms["executability"] = config.code_error if any(status != "ok" for status in statuses) else 0.0
    return Reward(terms)
