"""The first task of a flow: what was checked goes into the store."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from infra.lineage import start_fork
from infra.preflight import checked
from infra.problems import Loaded, put_problems, put_rejected
from infra.progress import say
from infra.storage import CampaignStore, Ref, Store
from tasks.step import Prepared
from torl_core.config import CampaignConfig


@task(cache_policy=NO_CACHE, persist_result=False)
def prepare(config: CampaignConfig) -> Prepared:
    """Check what can be checked, unless that was done ahead of the flow; put the problems into the store.

    Raises what `infra.preflight.check` raises.
    """
    found, store = checked(config), Store.open(config.store)
    problems = _stored(store, found.problems)
    benchmarks = {name: _stored(store, loaded) for name, loaded in found.benchmarks.items()}
    policy, optimizer = (found.base, None) if found.base else start_fork(config)
    source = config.problems.model_copy(update={"digest": found.problems.digest})
    recorded = config.model_copy(update={"problems": source})
    CampaignStore(store, config.name).save_config(recorded)  # behind a fork's copy: what is recorded has all it needs
    return Prepared(problems, benchmarks, policy, optimizer)


def _stored(store: Store, loaded: Loaded) -> Ref:
    listed = put_rejected(store, loaded.rejected)
    if listed:
        say(
            f"{loaded.config.where}: {len(loaded.problems)} problems, {len(loaded.rejected)} rows rejected; listed "
            f"with line and reason in {store.uri_of(listed.key)}",
            "yellow",
        )
    return put_problems(store, loaded.problems)
