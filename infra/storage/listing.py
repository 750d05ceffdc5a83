"""What a store holds, for people and programs: campaigns, their steps, and what was measured on their policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from infra.storage.campaign import EvaluationManifest, StepManifest, campaigns
from infra.storage.damage import OnDamage, attempt, contents, damaged_tables, refuse
from infra.storage.inventory import Listing
from infra.storage.store import REMOVED, Store, is_outside


@dataclass(frozen=True, slots=True)
class StepLine:
    campaign: str
    step: int
    rows: int
    bytes: int
    """Of the step's trajectories, compressed."""
    policy: str
    """Digest of the policy that the step left."""
    checkpoint: Literal["stored", "removed", "missing"]
    """removed: by retention. missing: damage, see `torl store verify`."""
    checkpoint_bytes: int
    metrics: Mapping[str, float]
    created_at: str
    grader: str
    kind: Literal["step"] = "step"


@dataclass(frozen=True, slots=True)
class EvaluationLine:
    campaign: str
    step: int
    benchmark: str
    temperature: float
    rows: int
    bytes: int
    policy: str
    metrics: Mapping[str, float]
    created_at: str
    samples: int
    max_calls: int | None
    """C; None: the campaign's own."""
    problems: str | None
    """Digest of its problems."""
    evaluation: str | None
    """Its identity; None where an earlier version of torl made it."""
    grader: str
    kind: Literal["evaluation"] = "evaluation"


@dataclass(frozen=True, slots=True)
class CampaignLine:
    campaign: str
    steps: int
    rows: int
    bytes: int
    """Of its training trajectories, compressed."""
    checkpoints: int
    """How many are stored."""
    checkpoint_bytes: int
    evaluations: int
    held_by: str | None
    """The living run that writes it."""
    graders: tuple[str, ...]
    """Versions of the grader that judged its steps; the figures of steps with different ones are not comparable."""
    kind: Literal["campaign"] = "campaign"


Line = CampaignLine | StepLine | EvaluationLine


def lines(store: Store, on_damage: OnDamage = refuse) -> Iterator[Line]:
    """For each campaign its own line, then its steps and evaluations in order. Raises StoreError.

    What is damaged is handed to `on_damage`; unless that raises, everything else is listed.
    """
    found = [contents(campaign, on_damage) for campaign in campaigns(store)]
    listing = Listing.of(store)
    sizes = {entry.key: entry.bytes for entry in listing.entries}
    for one in found:
        for damage in damaged_tables(one.manifests.values(), sizes):
            on_damage(damage)
        steps = [_step(manifest, listing) for manifest in one.steps.values()]
        evaluations = [_evaluation(manifest) for manifest in one.evaluations.values()]
        yield CampaignLine(
            one.campaign.name,
            len(steps),
            sum(step.rows for step in steps),
            sum(step.bytes for step in steps),
            sum(step.checkpoint == "stored" for step in steps),
            sum(step.checkpoint_bytes for step in steps),
            len(evaluations),
            attempt(one.campaign.lease_folder, one.campaign.holder, on_damage),
            tuple(dict.fromkeys(step.grader for step in steps)),
        )
        yield from steps
        yield from evaluations


def _step(manifest: StepManifest, listing: Listing) -> StepLine:
    policy = manifest.policy_out
    folders = [policy.weights_uri, *([manifest.optimizer.key] if manifest.optimizer else [])]
    files = [entry for folder in folders for entry in listing.below(folder)]
    is_removed = listing.at(f"{policy.weights_uri}/{REMOVED}") is not None
    return StepLine(
        manifest.campaign,
        manifest.step,
        sum(ref.rows for ref in manifest.trajectories),
        sum(ref.bytes for ref in manifest.trajectories),
        policy.digest,
        "removed" if is_removed else "stored" if files or is_outside(policy.weights_uri) else "missing",
        0 if is_removed else sum(entry.bytes for entry in files),
        manifest.metrics,
        manifest.created_at,
        manifest.grader,
    )


def _evaluation(manifest: EvaluationManifest) -> EvaluationLine:
    return EvaluationLine(
        manifest.campaign,
        manifest.step,
        manifest.benchmark,
        manifest.temperature,
        sum(ref.rows for ref in manifest.trajectories),
        sum(ref.bytes for ref in manifest.trajectories),
        manifest.policy.digest,
        manifest.metrics,
        manifest.created_at,
        manifest.samples,
        manifest.max_calls,
        manifest.problems.digest if manifest.problems else None,
        manifest.identity,
        manifest.grader,
    )
