"""Upload a step's checkpoint and commit the step: the manifest, written last, makes all it made visible."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from infra.storage import CampaignStore, Ref, StepManifest, Store
from tasks.step import Rollouts, Scored, Stopwatch, Trained, is_worth_retrying
from torl_core.config import CampaignConfig
from torl_core.types import Policy


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=is_worth_retrying,
)
def checkpoint(
    config: CampaignConfig,
    step: int,
    policy: Policy,
    problems: Ref,
    rollouts: Rollouts,
    scored: Scored,
    trained: Trained,
    total_s: float,
    waited_s: float,
) -> StepManifest:
    """Runs while the next step samples. `total_s`: the step's wall time up to here, `waited_s` of which it waited for
    the previous step's upload; overhead between its phases is included.

    Raises StoreError when the step was committed by another run with another outcome, or the lease was lost.
    """
    watch = Stopwatch()
    store = CampaignStore(Store.open(config.store), config.name)
    done = store.manifest(step)
    if done and (done.policy_out, done.trajectories) == (trained.policy, (scored.data,)):
        return done  # an earlier try wrote it and failed behind it
    store.upload_checkpoint(trained.policy, trained.optimizer)
    manifest = StepManifest(
        campaign=config.name,
        step=step,
        trajectories=(scored.data,),
        policy_in=policy,
        policy_out=trained.policy,
        optimizer=trained.optimizer,
        config_digest=config.identity(),
        settings=config.perturbing(),
        grader=scored.grader,
        problems=problems,
        metrics={**scored.metrics, **trained.metrics, "upload_s": watch.lap()},
        phases_s={
            "rollout": rollouts.wall_s,
            "reward": scored.wall_s,
            "train": trained.train_s,
            "checkpoint": trained.checkpoint_s + waited_s,
            "total": total_s,
        },
    )
    store.commit_step(manifest)
    return manifest
