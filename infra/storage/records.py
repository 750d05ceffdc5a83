"""Whether what a campaign records can be true: its config and manifests are JSON, which anything can be written into.

A config may be refused by the rules of today and still be whole, since an earlier version of torl had others. What no
version ever recorded is damage: a value of the wrong type, a missing key, a negative count or size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from infra.settings import offence
from infra.storage.campaign import CampaignStore, EvaluationManifest, Ref, StepManifest, of_record
from infra.storage.damage import FROM_A_COPY, Contents, Damage
from infra.storage.store import is_outside
from torl_core.config import CampaignConfig
from torl_core.types import Policy

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONFIG_DIGEST = re.compile(r"[0-9a-f]{12}")
_WAS_SIGNED = ("seed",)
"""The first versions took any whole number here."""


def impossible(found: Contents) -> Iterator[Damage]:
    """What no run of torl records, in a campaign's config and manifests."""
    for key, faults in _faults_by_key(found):
        if faults:
            yield Damage(key, "; ".join(faults), FROM_A_COPY)


def under_other_rules(found: Contents) -> str | None:
    """What this version of torl refuses in a config that an earlier one took; None where it refuses nothing."""
    return "; ".join(offence(CampaignConfig, one) for one in _refused(found) if not _never_taken(one)) or None


def _faults_by_key(found: Contents) -> Iterator[tuple[str, list[str]]]:
    campaign = found.campaign
    yield campaign.config_key, list(_of_config(found))
    for key, evaluation in found.evaluations.items():
        yield key, list(_of_evaluation(campaign, key, evaluation))
    before: StepManifest | None = None
    for key, step in found.steps.items():
        first = before.step + 1 if before else 1
        yield from ((campaign.manifest_key(gap), ["it is not there"]) for gap in range(first, step.step))
        yield key, list(_of_step(campaign, key, step, before if step.step == first else None))
        before = step


def _of_config(found: Contents) -> Iterator[str]:
    if found.config is None:
        if found.manifests:
            yield "it is not there"
        return
    yield from (offence(CampaignConfig, one) for one in _refused(found) if _never_taken(one))
    if (name := found.config.get("name")) != found.campaign.name:
        yield f"it is the config of campaign {name!r}"


def _refused(found: Contents) -> Sequence[Any]:
    """Pydantic's errors about the recorded config."""
    if found.config is None:
        return ()
    try:
        CampaignConfig.model_validate(of_record(found.config))
    except ValidationError as error:
        return error.errors()
    return ()


def _never_taken(error: Any) -> bool:
    """Whether no version ever took the value: bounds and choices change with versions, types and signs do not."""
    kind: str = error["type"]
    if kind in ("greater_than", "greater_than_equal"):
        (least,) = error["ctx"].values()
        return bool(error["input"] < 0 <= least) and error["loc"] != _WAS_SIGNED
    return kind == "missing" or kind.endswith(("_type", "_parsing"))


def _of_step(campaign: CampaignStore, key: str, one: StepManifest, before: StepManifest | None) -> Iterator[str]:
    if key != campaign.manifest_key(one.step):
        yield f"the manifest of step {one.step} lies at {campaign.manifest_key(one.step)}"
    yield from _below("step", one.step, 1)
    yield from _of_policy("policy_in", one.policy_in, one.step - 1)
    yield from _of_policy("policy_out", one.policy_out, one.step)
    if before and before.policy_out.digest != one.policy_in.digest:
        yield f"policy_in has digest {one.policy_in.digest!r}, and step {before.step} made {before.policy_out.digest!r}"
    if one.optimizer:
        yield from _of_ref("optimizer", one.optimizer)
    for phase, wall_s in one.phases_s.items():
        yield from _below(f"phases_s.{phase}", wall_s, 0)
    yield from _of_any(one)


def _of_evaluation(campaign: CampaignStore, key: str, one: EvaluationManifest) -> Iterator[str]:
    if one.identity and key != campaign.evaluation_key(one.step, one.benchmark, one.identity):
        yield f"benchmark {one.benchmark!r} and identity {one.identity!r} are of another file"
    yield from _of_policy("policy", one.policy, one.step)
    yield from _below("temperature", one.temperature, 0)
    yield from _below("samples", one.samples, 1)
    yield from _below("max_calls", one.max_calls or 0, 0)
    yield from _below("duration_s", one.duration_s, 0)
    yield from _of_any(one)


def _of_any(one: StepManifest | EvaluationManifest) -> Iterator[str]:
    for ref in one.trajectories:
        yield from _of_ref("trajectories", ref)
    if one.problems:
        yield from _of_ref("problems", one.problems)
    if not _CONFIG_DIGEST.fullmatch(one.config_digest):
        yield f"config_digest is {one.config_digest!r}, which is not 12 hexadecimal digits"
    yield from _below("schema_version", one.schema_version, 1)
    try:
        datetime.fromisoformat(one.created_at)
    except ValueError:
        yield f"created_at is {one.created_at!r}, which is no time"


def _of_policy(name: str, policy: Policy, version: int) -> Iterator[str]:
    if policy.version != version:
        yield f"{name}.version is {policy.version}, and this step's is {version}"
    yield from _of_digest(f"{name}.digest", policy.digest)
    if policy.parent is not None:
        yield from _of_digest(f"{name}.parent", policy.parent)


def _of_ref(name: str, ref: Ref) -> Iterator[str]:
    if is_outside(ref.key) or not ref.key or ".." in PurePosixPath(ref.key).parts:
        yield f"{name}.key is {ref.key!r}, which is outside the store"
    yield from _of_digest(f"{name}.digest", ref.digest)
    yield from _below(f"{name}.rows", ref.rows, 0)
    yield from _below(f"{name}.bytes", ref.bytes, 0)


def _of_digest(name: str, digest: str) -> Iterator[str]:
    if not _DIGEST.fullmatch(digest):
        yield f"{name} is {digest!r}, which is not 64 hexadecimal digits"


def _below(name: str, value: float, least: int) -> Iterator[str]:
    if not (math.isfinite(value) and value >= least):
        yield f"{name} is {value}, and {least} is the least"
