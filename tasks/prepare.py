"""Everything that can be wrong is found here, before anything expensive starts."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from infra.lineage import start_fork
from infra.models import base_policy
from infra.problems import load_problems, put_problems, put_rejected
from infra.progress import console
from infra.resources import current
from infra.storage import CampaignStore, Ref, Store
from tasks.step import Prepared
from torl_core.codec import load_codec
from torl_core.config import CampaignConfig, ProblemSource
from torl_core.curriculum import problem_indices
from torl_core.errors import ConfigError
from torl_core.prompts import make_prompt
from torl_core.types import Problem


@task(cache_policy=NO_CACHE, persist_result=False)
def prepare(config: CampaignConfig) -> Prepared:
    """Check store, sandbox, model and problems; put the problems into the store.

    Raises ConfigError, DataError, StoreError, SandboxCannotIsolate.
    """
    store = Store.open(config.store)
    store.check_writable()
    campaign = CampaignStore(store, config.name)
    campaign.check_config(config)
    if config.tool.max_calls:
        current().run(current().sandbox(config.sandbox))  # refuses to start where it cannot isolate
    problems, ref = _stored(store, config.problems)
    problem_indices(len(problems), config.rollout.problems_per_step, 1, config.seed)
    benchmarks = {
        name: _stored(store, benchmark.problems)[1] for name, benchmark in config.evaluation.benchmarks.items()
    }
    policy, optimizer = start_fork(config) if config.fork else (base_policy(config.model.path), None)
    _check_prompts(config, store.fetch_folder(policy.weights_uri, policy.digest), problems)
    campaign.save_config(config)  # behind a fork's copy: what is recorded has all it needs
    return Prepared(ref, benchmarks, policy, optimizer)


def _stored(store: Store, source: ProblemSource) -> tuple[list[Problem], Ref]:
    problems, rejected = load_problems(source)
    listed = put_rejected(store, rejected)
    if listed:
        console.print(
            f"{source.location}: {len(problems)} problems, {len(rejected)} rows rejected; listed with line and reason "
            f"in {store.uri_of(listed.key)}",
            style="yellow",
        )
    return problems, put_problems(store, problems)


def _check_prompts(config: CampaignConfig, weights: Path, problems: list[Problem]) -> None:
    codec = load_codec(weights)
    room = config.trainer.row_tokens - config.rollout.max_new_tokens
    for problem in problems:
        length = len(make_prompt(problem, config.rollout.template, codec).token_ids)
        if length > room:
            raise ConfigError(
                f"problem {problem.problem_id!r} has a prompt of {length} tokens",
                f"trainer.row_tokens ({config.trainer.row_tokens}) less rollout.max_new_tokens "
                f"({config.rollout.max_new_tokens}) leaves {room} for a prompt",
                "raise trainer.row_tokens, or leave the problem out",
            )
