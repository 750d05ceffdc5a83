"""Everything that can be wrong is found here, before anything expensive starts, Prefect's server among it.

The command line checks first and the flow, which a deployment starts without one, checks again; within one process the
second takes over what the first has found, and the sandbox that it opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from infra.lineage import fork_folder, pin
from infra.models import base_folder, base_policy
from infra.problems import Loaded, load_problems
from infra.progress import say
from infra.prompt_room import PromptRoom
from infra.resources import current, session
from infra.storage import CampaignStore, Store
from torl_core import grading
from torl_core.config import CampaignConfig, ProblemsConfig
from torl_core.curriculum import chosen_problems
from torl_core.errors import ConfigError, DataError
from torl_core.types import Policy


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks read on their way. `base` is the base model as policy 0; None for a fork."""

    problems: Loaded
    benchmarks: Mapping[str, Loaded]
    base: Policy | None


@contextmanager
def checked_ahead(config: CampaignConfig, *, trains: bool = True) -> Iterator[CampaignConfig]:
    """Check, then run the block: a flow of the returned config in it does not check again.

    Where no step is made in the block, `trains` is False. Raises as `check` and `check_grader`, and what
    `infra.lineage.pin` raises.
    """
    with session():
        config = pin(config)
        if trains:
            check_grader(config)
        _ahead[config.model_dump_json()] = check(config)
        try:
            yield config
        finally:
            _ahead.pop(config.model_dump_json(), None)


def checked(config: CampaignConfig) -> Checked:
    """What `checked_ahead` found in this process, once; otherwise as `check`."""
    return _ahead.pop(config.model_dump_json(), None) or check(config)


_ahead: dict[str, Checked] = {}


def check(config: CampaignConfig) -> Checked:
    """Check store, problems, model, prompt lengths and sandbox. Call inside `session()`, with `config` pinned.

    Quick checks come first. Raises ConfigError, DataError, StoreError, SandboxCannotIsolate, SandboxUnavailable.
    """
    store = Store.open(config.store)
    store.check_writable()
    CampaignStore(store, config.name).check_config(config)
    model = PromptRoom(config, lambda: fork_folder(config) if config.fork else base_folder(config.model.path))
    problems = _load(model, "problems", config.problems, config.trainer.row_tokens)
    chosen_problems(config, problems.problems, config.steps)  # raises where a step could not be filled
    benchmarks = {
        name: _load(model, f"evaluation.benchmarks.{name}.problems", one.problems)
        for name, one in config.evaluation.benchmarks.items()
    }
    calls = [config.tool.max_calls, *(one.max_calls or 0 for one in config.evaluation.benchmarks.values())]
    if any(calls):
        current().run(current().sandbox(config.sandbox))  # refuses to start where it cannot isolate
    return Checked(problems, benchmarks, None if config.fork else base_policy(model.folder))


def check_grader(config: CampaignConfig) -> None:
    """Raises ConfigError where this torl's grader is not the one that the campaign (`config` pinned) keeps.

    An evaluation may have any: the grader is part of its identity.
    """
    if config.reward.grader != grading.VERSION:
        raise ConfigError(
            f"this torl's grader has version {grading.VERSION}, and reward.grader is {config.reward.grader}",
            "A campaign keeps the grader that it began with, since another may judge the same response differently",
            f"Choose another name or store, install the torl that has grader {config.reward.grader}, or go on with "
            f"this one: --set reward.grader={grading.VERSION}",
        )


def step_to_evaluate(config: CampaignConfig, step: int | None) -> int:
    """The step whose policy is evaluated; the last finished one where `step` is None. Raises ConfigError."""
    if not config.evaluation.benchmarks:
        raise ConfigError(
            f"campaign {config.name!r} has no benchmarks",
            "an evaluation needs at least one under evaluation.benchmarks",
            "add one, such as --set 'evaluation.benchmarks.aime24={problems: {location: aime24.jsonl}}'",
        )
    store = CampaignStore(Store.open(config.store), config.name)
    last = store.last_step()
    wanted = last if step is None else step
    if wanted and store.manifest(wanted) is None:
        raise ConfigError(
            f"campaign {config.name!r} has no step {wanted}",
            f"its finished steps are 1 to {last}; 0 is the base model",
            "choose one of them",
        )
    return wanted


def _load(model: PromptRoom, setting: str, config: ProblemsConfig, row_tokens: int | None = None) -> Loaded:
    """`row_tokens`: length of a packed row, for problems that are trained on."""
    loaded = load_problems(config, lambda problems: model.too_long(problems, row_tokens))
    for location, columns in loaded.taken.items():
        say(f"{setting}: {location}: {columns}")
    if config.digest not in (None, loaded.digest):
        raise DataError(
            f"the problems in {config.where} have digest {loaded.digest}, and {setting}.digest is {config.digest}",
            "Other problems give other results, so a campaign goes on with those that it began with",
            f"Restore the problems, choose another name, or go on with these: --set {setting}.digest={loaded.digest}",
        )
    return loaded
