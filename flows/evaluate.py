"""Evaluate one stored policy of a campaign."""

from __future__ import annotations

from prefect import flow

from flows.campaign import evaluate_policy
from infra.lineage import pin
from infra.resources import session
from infra.storage import CampaignStore, EvaluationManifest, Store
from tasks.prepare import prepare
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError


@flow(name="evaluate", flow_run_name="{config.name}", persist_result=False)
def evaluate(config: CampaignConfig, step: int | None = None) -> list[EvaluationManifest]:
    """Benchmarks of the config on the policy that `step` left; the last one when None, the base model at 0."""
    if not config.evaluation.benchmarks:
        raise ConfigError(
            f"campaign {config.name!r} has no benchmarks",
            "an evaluation needs at least one under evaluation.benchmarks",
            "add one, such as --set 'evaluation.benchmarks.aime24={problems: {location: aime24.jsonl}}'",
        )
    config = pin(config)
    with session():
        prepared = prepare(config)
        store = CampaignStore(Store.open(config.store), config.name)
        last = store.last_step()
        wanted = last if step is None else step
        manifest = store.manifest(wanted)
        if wanted and manifest is None:
            raise ConfigError(
                f"campaign {config.name!r} has no step {wanted}",
                f"its finished steps are 1 to {last}; 0 is the base model",
                "choose one of them",
            )
        policy = manifest.policy_out if manifest else prepared.policy
        return evaluate_policy(config, wanted, policy, prepared.benchmarks)
