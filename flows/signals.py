"""Says when a campaign learns nothing: a step teaches only through groups whose responses have different rewards."""

from __future__ import annotations

from collections.abc import Mapping

from torl_core.config import CampaignConfig

PATIENCE = 5
"""Steps in a row without any signal after which it is said."""

_REMEDY = (
    "Look at accuracy and reward in the view `progress`. Easier problems, more samples per problem or a base model "
    "that solves some of the problems make rewards differ"
)


class Signals:
    """Takes each step's metrics in order and answers with what the user should read, if anything."""

    def __init__(self, config: CampaignConfig) -> None:
        self._campaign = config.name
        self._steps = self._without = self._in_a_row = 0
        self._said = False

    def add(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """A warning at the first stretch of `PATIENCE` steps without signal. A step of an earlier version, which
        recorded no `signal_share`, counts as one with signal."""
        silent = metrics.get("signal_share") == 0
        self._steps += 1
        self._without += silent
        self._in_a_row = self._in_a_row + 1 if silent else 0
        if self._said or self._in_a_row < PATIENCE:
            return None
        self._said = True
        mean = f" (the mean reward of step {step} is {metrics['reward']:g})" if "reward" in metrics else ""
        return (
            f"{self._campaign} has learned nothing in steps {step - PATIENCE + 1} to {step}: in no group did rewards "
            f"differ{mean}. {_REMEDY}"
        )

    def summary(self) -> str | None:
        """A warning at the end, if there was one on the way or no step had any signal."""
        if not self._without or not (self._said or self._without == self._steps):
            return None
        nothing = "; it has learned nothing" if self._without == self._steps else ""
        return (
            f"{self._without} of {self._steps} steps of {self._campaign} had no group with different rewards{nothing}"
        )
