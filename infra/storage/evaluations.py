"""Which stored evaluation answers a question."""

from __future__ import annotations

from infra.storage.campaign import CampaignStore, EvaluationManifest, Ref
from torl_core import grading
from torl_core.config import CampaignConfig
from torl_core.evaluation import evaluation_identity, evaluation_tool
from torl_core.types import Policy


def stored_answer(
    campaign: CampaignStore, config: CampaignConfig, step: int, policy: Policy, benchmark: str, problems: Ref
) -> EvaluationManifest | None:
    """The evaluation of `policy`, left by step `step`, as `config` asks for it; None where it was not made yet."""
    identity = evaluation_identity(config, benchmark, policy, problems.digest)
    if made := campaign.evaluation(step, benchmark, identity):
        return made
    old = campaign.evaluation_without_identity(step, benchmark, config.evaluation.benchmarks[benchmark].temperature)
    agrees = old and _agrees(old, config, policy, problems) and not campaign.changes(config)
    return old if agrees else None


def _agrees(old: EvaluationManifest, config: CampaignConfig, policy: Policy, problems: Ref) -> bool:
    """Whether a manifest without an identity records the same facts.

    What it does not record is among the settings that a campaign cannot change.
    """
    asked = config.evaluation.benchmarks[old.benchmark]
    return (
        old.grader,
        old.policy.digest,
        old.problems.digest if old.problems else None,
        old.samples,
        config.tool.max_calls if old.max_calls is None else old.max_calls,
    ) == (
        grading.VERSION,
        policy.digest,
        problems.digest,
        asked.samples,
        evaluation_tool(config, old.benchmark).max_calls,
    )
