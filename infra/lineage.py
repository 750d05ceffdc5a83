"""Steps of stored campaigns as starting points: named by STORE@STEP, trained again, or gone on from by a fork.

A fork owns what it needs: policy and optimizer state of the step it starts from are copied into its own store as its
checkpoint 0 before its config is recorded, so from then on the source may change or vanish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from infra.problems import contents_digest, get_problems
from infra.progress import bar, say
from infra.settings import parse
from infra.storage import CampaignStore, Ref, StepManifest, Store, campaigns
from infra.storage.damage import Damage, attempt, refuse
from torl_core import grading
from torl_core.config import (
    NEWEST_DIALECT,
    CampaignConfig,
    ForkConfig,
    ModelConfig,
    ProblemsConfig,
    RewardConfig,
    ToolConfig,
)
from torl_core.errors import ConfigError, StoreError
from torl_core.types import Policy


def parse_address(address: str) -> tuple[str, int]:
    """(store, step) of STORE@STEP. Raises ConfigError."""
    store, at, step = address.rpartition("@")
    if not (store and at and step.isascii() and step.isdigit()):
        raise ConfigError(
            f"{address!r} names no step",
            "a step of a stored campaign is written STORE@STEP, its number behind the last @",
            "write it like runs/demo/store@40",
        )
    return store, int(step)


def find_step(store: Store, step: int, campaign: str | None = None) -> tuple[CampaignStore, StepManifest]:
    """The finished step `step` of the named campaign, or of the only one in `store` that has it.

    Without a name, campaigns whose manifest of the step is damaged are left out, and the user is warned. Raises
    ConfigError where no step or more than one is found, and StoreError where only damaged manifests are.
    """
    known = {one.name: one for one in campaigns(store)}
    if campaign is not None and campaign not in known:
        raise ConfigError(
            f"{store.uri} has no campaign {campaign!r}",
            f"it has {_listed(known)}",
            "choose one of them, or another store",
        )
    wanted = [known[campaign]] if campaign is not None else list(known.values())
    damages: list[Damage] = []
    found = [
        (one, manifest)
        for one in wanted
        if (manifest := attempt(one.manifest_key(step), partial(one.manifest, step), damages.append)) is not None
    ]
    if damages and not found:
        refuse(damages[0])
    if not found:
        steps = [f"{one.name}: {f'1 to {last}' if (last := one.last_step()) else 'none'}" for one in wanted]
        raise ConfigError(
            f"{store.uri} has no finished step {step}",
            f"finished steps, counted from 1, are {'; '.join(steps) or 'none'}",
            "choose one of them",
        )
    if len(found) > 1:
        raise ConfigError(
            f"step {step} of {store.uri} is ambiguous: the campaigns {_listed([one.name for one, _ in found])} have it",
            "a step belongs to one campaign",
            "name the campaign too, with --campaign or, for a fork, --fork-campaign",
        )
    for damage in damages:
        say(f"step {step} is taken from campaign {found[0][0].name!r}; another one's is damaged: {damage}", "yellow")
    return found[0]


def state_before(campaign: CampaignStore, manifest: StepManifest) -> tuple[Policy, Ref | None]:
    """What the step was trained from; no optimizer state means a fresh one."""
    if manifest.step > 1:
        before = campaign.manifest(manifest.step - 1)
        return manifest.policy_in, before.optimizer if before else None
    start = campaign.fork_start(campaign.recorded_config())
    return manifest.policy_in, start[1] if start else None


def made_under(config: CampaignConfig, manifest: StepManifest) -> CampaignConfig:
    """`config` with the step's settings that may have changed since: under others it does not come out bit for bit."""
    own = {**(manifest.settings or {}), "reward": {"grader": manifest.grader}}
    values = _laid_over(config.model_dump(mode="json"), own)
    return parse(CampaignConfig, values, f"the manifest of step {manifest.step}")


def _laid_over(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: _laid_over(values[k], v) for k, v in changes.items() if isinstance(v, Mapping) and k in values}
    return {**values, **changes, **inner}


def checked_folder(store: Store, location: str, digest: str, needed_by: str) -> Path:
    """A checkpoint's folder with exactly the recorded content. Raises StoreError, saying what cannot go on without."""
    try:
        store.verify_folder(location, digest)
        return store.fetch_folder(location, digest)
    except StoreError as error:
        raise StoreError(
            f"{needed_by} is not possible: {error.what}",
            "it starts from a stored checkpoint, which retention may have removed",
            "choose a step whose checkpoint was kept, or restore it from a copy of the store",
            retryable=error.retryable,
        ) from error


def pin(config: CampaignConfig) -> CampaignConfig:
    """`config` with what is filled in when a campaign starts: the length of the learning rate's schedule, the tool's
    dialect, the grader's version, the problems' digest (once they were read), a fork's campaign and digests.

    They come from the campaign's own record once it was started, so that it keeps schedule, dialect, grader and
    problems, and a fork's source is not asked again. Raises ConfigError, StoreError.
    """
    own = CampaignStore(Store.open(config.store), config.name)
    recorded = own.recorded_config() if own.config() else None
    return own.scheduled(config).model_copy(
        update={
            "tool": _with_dialect(config.tool, recorded.tool if recorded else None),
            "reward": _with_grader(config.reward, recorded.reward if recorded else None),
            "problems": _with_digest(config.problems, own, recorded),
            "fork": config.fork and _pinned_fork(config.fork, recorded.fork if recorded else None, config.model.dtype),
        }
    )


def _with_dialect(tool: ToolConfig, recorded: ToolConfig | None) -> ToolConfig:
    """A stored campaign keeps its dialect, and the limit in characters that belongs to the first."""
    dialect, chars = (recorded.dialect, recorded.observation_max_chars) if recorded else (None, None)
    if tool.dialect in (None, dialect):
        chars = tool.observation_max_chars or chars
        return tool.model_copy(update={"dialect": dialect or NEWEST_DIALECT, "observation_max_chars": chars})
    return tool


def _with_grader(reward: RewardConfig, recorded: RewardConfig | None) -> RewardConfig:
    kept = recorded.grader if recorded else None
    return reward.model_copy(update={"grader": reward.grader or kept or grading.VERSION})


def _with_digest(problems: ProblemsConfig, own: CampaignStore, recorded: CampaignConfig | None) -> ProblemsConfig:
    """A campaign that an earlier version of torl began recorded no digest; its first step names its problems."""
    if problems.digest is not None or recorded is None:
        return problems
    digest = recorded.problems.digest
    if digest is None and (first := own.manifest(1)) and first.problems:
        digest = contents_digest(get_problems(own.store, first.problems))
    return problems.model_copy(update={"digest": digest})


# --- forks


def _pinned_fork(fork: ForkConfig, recorded: ForkConfig | None, dtype: str) -> ForkConfig:
    if recorded is None or not fork.model_dump(exclude_none=True).items() <= recorded.model_dump().items():
        return _look_up(fork, dtype)
    return recorded


def _look_up(fork: ForkConfig, dtype: str) -> ForkConfig:
    campaign, manifest = find_step(Store.open(fork.store), fork.step, fork.campaign)
    if manifest.optimizer is None:
        raise StoreError(
            f"step {fork.step} of campaign {campaign.name!r} has no optimizer state",
            "a fork goes on with the optimizer state of its step",
            "give its policy folder as model.path instead",
        )
    if (theirs := _recorded_dtype(campaign)) != dtype:
        raise ConfigError(
            f"model.dtype is {dtype} and campaign {campaign.name!r} has {theirs}",
            "a fork goes on from weights and optimizer state of its own dtype",
            f"set model.dtype to {theirs}",
        )
    found = ForkConfig(
        store=fork.store, step=fork.step, campaign=campaign.name,
        policy=manifest.policy_out.digest, optimizer=manifest.optimizer.digest,
    )  # fmt: skip
    for name in ("policy", "optimizer"):
        if (wanted := getattr(fork, name)) not in (None, getattr(found, name)):
            raise ConfigError(
                f"fork.{name} is {wanted} and the step's is {getattr(found, name)}",
                "a fork starts from exactly the digests it names",
                f"leave fork.{name} out, or choose the step that has it",
            )
    return found


def _recorded_dtype(campaign: CampaignStore) -> str:
    """Only this is read, so that a campaign whose other settings are refused by now can be forked."""
    where = campaign.store.uri_of(campaign.config_key)
    return parse(ModelConfig, (campaign.config() or {}).get("model", {}), where).dtype


def fork_folder(config: CampaignConfig) -> Path:
    """A local folder with the policy a fork (`config` pinned) starts from: its own copy, or the source's before it has
    one. Raises StoreError."""
    own = CampaignStore(Store.open(config.store), config.name)
    start = own.fork_start(config)
    assert config.fork is not None
    assert start is not None
    if own.config() is not None:
        return own.store.fetch_folder(start[0].weights_uri, start[0].digest)
    source = Store.open(config.fork.store)
    _, manifest = find_step(source, config.fork.step, config.fork.campaign)
    label = f"a fork of step {config.fork.step} of campaign {config.fork.campaign!r}"
    return checked_folder(source, manifest.policy_out.weights_uri, start[0].digest, label)


def start_fork(config: CampaignConfig) -> tuple[Policy, Ref]:
    """Policy 0 and optimizer state of a fork (`config` pinned), copied into its own store unless it was started before.

    Raises StoreError.
    """
    own = CampaignStore(Store.open(config.store), config.name)
    fork, start = config.fork, own.fork_start(config)
    assert fork is not None
    assert start is not None
    policy, optimizer = start
    if own.config() is None:
        source = Store.open(fork.store)
        campaign, manifest = find_step(source, fork.step, fork.campaign)
        assert manifest.optimizer is not None
        copies = (
            (manifest.policy_out.weights_uri, policy.weights_uri, policy.digest),
            (manifest.optimizer.key, optimizer.key, optimizer.digest),
        )
        label = f"fork of step {fork.step} of campaign {campaign.name!r}"
        if manifest.grader != config.reward.grader:
            say(
                f"step {fork.step} of campaign {campaign.name!r} was judged by grader {manifest.grader}, and "
                f"{config.name!r} is judged by grader {config.reward.grader}",
                "yellow",
            )
        with bar(label, len(copies)) as progress:
            for done, (theirs, ours, digest) in enumerate(copies, start=1):
                own.store.put_folder(checked_folder(source, theirs, digest, f"a {label}"), ours)
                progress.update(done)
    return policy, optimizer


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
