"""Which checkpoints of a campaign stay. Each removed folder leaves a note in its place, which says so to readers.

The note is written before the first file goes: interrupted at any point, a folder is whole or says that it was removed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from infra.storage.campaign import CampaignStore, EvaluationManifest, Ref, StepManifest
from infra.storage.evaluations import stored_answer
from infra.storage.store import REMOVED
from torl_core.config import CampaignConfig, RetentionConfig

_PART = re.compile(r"step=(\d+)/(policy|optimizer)/(.+)")


def kept(steps: Collection[int], scores: Mapping[int, float], config: RetentionConfig) -> set[int]:
    """Those of the committed `steps` whose checkpoints stay. Of equal scores the later step is the better."""
    if config.last is None:
        return set(steps)
    last = sorted(steps)[-config.last :]
    every = [step for step in steps if config.every and step % config.every == 0]
    ranked = sorted((step for step in steps if step in scores), key=lambda step: (scores[step], step), reverse=True)
    return {*last, *every, *ranked[: config.best]}


class Retention:
    """Applies a campaign's retention after its commits; the run that does so holds the campaign."""

    def __init__(self, campaign: CampaignStore, config: CampaignConfig, benchmarks: Mapping[str, Ref]) -> None:
        """`benchmarks`: the stored problems of each."""
        self._campaign, self._config, self._benchmarks = campaign, config, benchmarks
        self._scores: dict[int, tuple[str, float]] = {}

    def apply(self, last_step: int) -> list[int]:
        """Remove what need not be kept once `last_step` is committed; returns those steps. Raises StoreError.

        A policy that is still to be evaluated is kept. Step 0, what a fork started from, is not looked at.
        """
        if self._config.retention.last is None:
            return []
        stored = self._stored(last_step)
        scores = {step: score for step in stored if (score := self._score(step)) is not None}
        stays = kept(stored, {}, self._config.retention)
        for judge in {grader for grader, _ in scores.values()}:  # figures of different graders are not compared
            comparable = {step: figure for step, (grader, figure) in scores.items() if grader == judge}
            stays |= kept(stored, comparable, self._config.retention)
        removed = [step for step in sorted(stored - stays) if not self._awaits_evaluation(step)]
        for step in removed:
            self._campaign.check_held()
            self._remove(step)
        return removed

    def _stored(self, last_step: int) -> set[int]:
        """Committed steps of whose checkpoints anything but a note is left."""
        folder = f"checkpoints/{self._campaign.name}"
        matches = (_PART.fullmatch(key.removeprefix(f"{folder}/")) for key in self._campaign.store.list(folder))
        found = {int(match[1]) for match in matches if match and match[3] != REMOVED}
        return {step for step in found if 1 <= step <= last_step}

    def _score(self, step: int) -> tuple[str, float] | None:
        """By which grader the policy was judged that `step` left, and how good it is; None while that is not known."""
        if self._config.retention.best and step not in self._scores:
            measured, name = self._measured(step)
            if measured and name in measured.metrics:
                self._scores[step] = measured.grader, measured.metrics[name]
        return self._scores.get(step)

    def _measured(self, step: int) -> tuple[StepManifest | EvaluationManifest | None, str]:
        evaluation = self._config.evaluation
        if evaluation.every and evaluation.benchmarks:
            return self._evaluation(step, next(iter(evaluation.benchmarks))), "accuracy"
        return self._campaign.manifest(step + 1), "reward"

    def _awaits_evaluation(self, step: int) -> bool:
        evaluation = self._config.evaluation
        return evaluation.is_due(step, self._config.steps) and any(
            self._evaluation(step, name) is None for name in evaluation.benchmarks
        )

    def _evaluation(self, step: int, benchmark: str) -> EvaluationManifest | None:
        committed = self._campaign.manifest(step)
        if committed is None:
            return None
        problems = self._benchmarks[benchmark]
        return stored_answer(self._campaign, self._config, step, committed.policy_out, benchmark, problems)

    def _remove(self, step: int) -> None:
        store = self._campaign.store
        note = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "kept": str(self._config.retention)}
        for part in ("optimizer", "policy"):
            folder = f"{self._campaign.checkpoint_key(step)}/{part}"
            store.create_json(f"{folder}/{REMOVED}", note)
            names = {key.removeprefix(f"{folder}/").split("/")[0] for key in store.list(folder)}
            for name in sorted(names - {REMOVED}):
                store.delete(f"{folder}/{name}")
