"""Evaluate one stored policy of a campaign."""

from __future__ import annotations

from prefect import flow

from flows.campaign import evaluate_policy
from flows.deployed import ends_in_time
from infra.lineage import pin
from infra.preflight import step_to_evaluate
from infra.resources import session
from infra.storage import CampaignStore, EvaluationManifest, Store
from tasks.prepare import prepare
from torl_core.config import CampaignConfig


@flow(name="evaluate", flow_run_name="{config.name}", persist_result=False)
def evaluate(config: CampaignConfig, step: int | None = None) -> list[EvaluationManifest]:
    """Benchmarks of the config on the policy that `step` left; the last one when None, the base model at 0."""
    with ends_in_time():
        return _evaluate(pin(config), step_to_evaluate(config, step))


def _evaluate(config: CampaignConfig, wanted: int) -> list[EvaluationManifest]:
    with session():
        prepared = prepare(config)
        manifest = CampaignStore(Store.open(config.store), config.name).manifest(wanted)
        policy = manifest.policy_out if manifest else prepared.policy
        return evaluate_policy(config, wanted, policy, prepared.benchmarks)
