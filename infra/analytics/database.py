"""DuckDB over a store: nothing is imported or copied, the views read the store's Parquet files in place."""

from __future__ import annotations

import glob
import json
import re
import reprlib
import tempfile
import uuid
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from infra.storage import EvaluationManifest, Ref, StepManifest, Store, campaigns
from infra.storage.damage import (
    FROM_A_COPY,
    Contents,
    Damage,
    OnDamage,
    contents,
    damaged_tables,
    refuse,
    table_sizes,
    unsound_tables,
)
from infra.storage.rows import FIRST_GRADER, SCHEMA
from torl_core.types import Policy

_NUMBERS = pa.map_(pa.string(), pa.float64())
_LINEAGE = [
    ("config_digest", pa.string()),
    ("code_version", pa.string()),
    ("created_at", pa.timestamp("s", tz="UTC")),
]
_CAMPAIGNS = pa.schema(
    [
        ("campaign", pa.string()),
        ("max_calls", pa.int32()),
        ("steps_planned", pa.int32()),
        ("seed", pa.int64()),
        ("model", pa.string()),
        ("config", pa.string()),
    ]
)
_STEPS = pa.schema(
    [
        ("campaign", pa.string()),
        ("step", pa.int32()),
        ("responses", pa.int64()),
        ("metrics", _NUMBERS),
        ("phases_s", _NUMBERS),
        ("policy_in", pa.string()),
        ("policy_out", pa.string()),
        ("policy_uri", pa.string()),
        ("grader", pa.string()),
        ("trajectory_files", pa.list_(pa.string())),
        ("problems_digest", pa.string()),
        ("settings", pa.string()),
        *_LINEAGE,
    ]
)
_EVALUATIONS = pa.schema(
    [
        ("campaign", pa.string()),
        ("step", pa.int32()),
        ("benchmark", pa.string()),
        ("temperature", pa.float64()),
        ("samples", pa.int32()),
        ("max_calls", pa.int32()),
        ("evaluation", pa.string()),
        ("settings", pa.string()),
        ("problems_digest", pa.string()),
        ("files", pa.list_(pa.string())),
        ("metrics", _NUMBERS),
        ("duration_s", pa.float64()),
        ("policy", pa.string()),
        ("policy_uri", pa.string()),
        *_LINEAGE,
    ]
)
_STEP_PARTITION = {"campaign": pa.string(), "step": pa.int32()}
_SQL_TYPES = {pa.string(): "VARCHAR", pa.int32(): "INTEGER"}
_SQL = files(__package__).joinpath("views.sql").read_text()
VIEWS = sorted(re.findall(r"^CREATE VIEW (\w+)", _SQL, re.MULTILINE))

S = TypeVar("S")
T = TypeVar("T")


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """DuckDB makes an error of its own of Ctrl-C."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from None
        raise


@_ctrl_c()
def ask(store: Store, question: Callable[[duckdb.DuckDBPyConnection], T], on_damage: OnDamage = refuse) -> T:
    """What `question` gets from a connection with the views of views.sql over all that `store` has committed.

    What is damaged is handed to `on_damage`; unless that raises, the answer is of everything else. DuckDB may meet a
    damaged file only while it answers: then the question is asked a second time, without all such files.
    Raises StoreError when the store cannot be read, and what `question` raises.
    """
    found = [contents(campaign, on_damage) for campaign in campaigns(store)]
    manifests = [manifest for one in found for manifest in one.manifests.values()]
    left_out: set[str] = set()

    def leave_out(damage: Damage) -> None:
        left_out.add(damage.key)
        on_damage(damage)

    for damage in damaged_tables(manifests, table_sizes(store)):
        leave_out(damage)
    try:
        with _views(store, found, left_out, on_damage) as connection:
            return question(connection)
    except (duckdb.Error, UnicodeDecodeError) as error:
        if not _may_come_from_a_file(error):
            raise
        refs = [ref for manifest in manifests for ref in manifest.trajectories if ref.key not in left_out]
        if not (damages := list(unsound_tables(store, refs))):
            raise
    for damage in damages:
        leave_out(damage)
    with _views(store, found, left_out, lambda _: None) as connection:
        return question(connection)


def _may_come_from_a_file(error: Exception) -> bool:
    """DuckDB has no class of its own for a damaged Parquet file."""
    named = isinstance(error, duckdb.IOException | duckdb.InvalidInputException) and ".parquet" in str(error)
    return named or type(error) is duckdb.Error or isinstance(error, UnicodeDecodeError)


def _views(
    store: Store, found: Sequence[Contents], left_out: Container[str], on_damage: OnDamage
) -> duckdb.DuckDBPyConnection:
    """An empty store gives empty views."""
    # DuckDB makes and removes it when something does not fit into memory. Its own choice is ./.tmp, which is not ours.
    spill = Path(tempfile.gettempdir()) / f"torl-sql-{uuid.uuid4().hex}"
    connection = duckdb.connect(config={"temp_directory": str(spill)})
    if not store.is_local:
        connection.register_filesystem(store.fs)
    configs = {one.campaign.config_key: one.config for one in found if one.config is not None}
    steps = {key: step for one in found for key, step in one.steps.items()}
    evaluations = {key: evaluation for one in found for key, evaluation in one.evaluations.items()}
    connection.execute("CREATE SCHEMA raw")
    _table(connection, "campaigns", _rows(configs, _config_row, _CAMPAIGNS, on_damage))
    _table(connection, "steps", _rows(steps, partial(_step_row, store), _STEPS, on_damage))
    _table(connection, "evaluations", _rows(evaluations, partial(_evaluation_row, store), _EVALUATIONS, on_damage))
    _step_rows(connection, store, _refs(steps, left_out))
    _evaluation_rows(connection, store, _refs(evaluations, left_out))
    connection.execute(_SQL)
    return connection


def _refs(manifests: Mapping[str, StepManifest | EvaluationManifest], left_out: Container[str]) -> list[list[Ref]]:
    """Their files, grouped by the version of the code that wrote them: those of one version have the same columns."""
    alike: dict[Hashable, list[Ref]] = {}
    for manifest in manifests.values():
        refs = [ref for ref in manifest.trajectories if ref.key not in left_out]
        if refs:
            alike.setdefault((manifest.schema_version, manifest.versions.get("code")), []).extend(refs)
    return list(alike.values())


def _step_rows(connection: duckdb.DuckDBPyConnection, store: Store, refs: Sequence[Sequence[Ref]]) -> None:
    """A view raw.step_rows over the files of `refs`, with their hive partitions as columns in front."""
    types = ", ".join(f"{column}: {_SQL_TYPES[kind]}" for column, kind in _STEP_PARTITION.items())
    schema = pa.schema([*_STEP_PARTITION.items(), *SCHEMA])
    _responses(connection, store, "step_rows", schema, refs, f"hive_partitioning = true, hive_types = {{{types}}}")


def _evaluation_rows(connection: duckdb.DuckDBPyConnection, store: Store, refs: Sequence[Sequence[Ref]]) -> None:
    """A view raw.evaluation_rows over the files of `refs`; `file` leads to the manifest that names it.

    The folders are not read as hive partitions: earlier versions of torl named them otherwise.
    """
    schema = pa.schema([*SCHEMA, ("file", pa.string())])
    _responses(connection, store, "evaluation_rows", schema, refs, "hive_partitioning = false, filename = 'file'")


def _responses(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    name: str,
    schema: pa.Schema,
    refs: Sequence[Sequence[Ref]],
    options: str,
) -> None:
    """A view raw.`name` over the files of `refs`, in which a column or field that a file does not have is NULL.

    Only `grader` is filled in: where a file does not name the one that judged a response, it was the first.
    Of each group of `refs`, which have the same columns, DuckDB looks into only one file when the view is made.
    """
    _table(connection, f"no_{name}", schema.empty_table())
    parts = [f"FROM read_parquet({_paths(store, alike)}, {options})" for alike in refs]
    query = " UNION ALL BY NAME ".join([f"FROM raw.no_{name}", *parts])
    grader = f"coalesce(grader, CASE WHEN grade_reason IS NOT NULL THEN {quoted(FIRST_GRADER)} END)"
    connection.execute(f"CREATE VIEW raw.{name} AS SELECT * REPLACE ({grader} AS grader) FROM ({query})")


def _paths(store: Store, refs: Sequence[Ref]) -> str:
    return "[" + ", ".join(quoted(glob.escape(store.uri_of(ref.key))) for ref in refs) + "]"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _rows(
    sources: Mapping[str, S], row: Callable[[S], dict[str, Any]], schema: pa.Schema, on_damage: OnDamage
) -> pa.Table:
    """A table with the row of each of the files {key: content}. One that holds an impossible value has no row."""

    try:
        return pa.Table.from_pylist([row(source) for source in sources.values()], schema=schema)
    except _IMPOSSIBLE:
        tables = [schema.empty_table()]
    for key, source in sources.items():
        try:
            tables.append(_one_row(row(source), schema))
        except _IMPOSSIBLE as error:
            on_damage(Damage(key, f"a value in it fits no column of the views ({error})", FROM_A_COPY))
    return pa.concat_tables(tables)


def _one_row(row: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Raises ValueError that names the first column whose value is impossible."""
    for field in schema:
        try:
            pa.array([row[field.name]], field.type)
        except _IMPOSSIBLE as error:
            raise ValueError(f"{field.name} is {reprlib.repr(row[field.name])}: {error}") from error
    return pa.Table.from_pylist([row], schema=schema)


_IMPOSSIBLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, pa.ArrowException)


def _table(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(f"CREATE TABLE raw.{name} AS FROM incoming")
    connection.unregister("incoming")


def _config_row(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "campaign": config["name"],
        "max_calls": config["tool"]["max_calls"],
        "steps_planned": config["steps"],
        "seed": config["seed"],
        "model": config["model"]["path"],
        "config": json.dumps(config, sort_keys=True),
    }


def _step_row(store: Store, step: StepManifest) -> dict[str, Any]:
    return {
        "campaign": step.campaign,
        "step": step.step,
        "responses": sum(ref.rows for ref in step.trajectories),
        "metrics": list(step.metrics.items()),
        "phases_s": list(step.phases_s.items()),
        "policy_in": step.policy_in.digest,
        **_policy("policy_out", step.policy_out, store),
        "grader": step.grader,
        "trajectory_files": [store.uri_of(ref.key) for ref in step.trajectories],
        "problems_digest": step.problems.digest if step.problems else None,
        "settings": _settings(step),
        **_lineage(step),
    }


def _evaluation_row(store: Store, evaluation: EvaluationManifest) -> dict[str, Any]:
    same = ("campaign", "step", "benchmark", "temperature", "samples", "max_calls", "duration_s")
    return {
        **{name: getattr(evaluation, name) for name in same},
        "evaluation": evaluation.identity,
        "settings": _settings(evaluation),
        "problems_digest": evaluation.problems.digest if evaluation.problems else None,
        "files": [store.uri_of(ref.key) for ref in evaluation.trajectories],
        "metrics": list(evaluation.metrics.items()),
        **_policy("policy", evaluation.policy, store),
        **_lineage(evaluation),
    }


def _settings(manifest: StepManifest | EvaluationManifest) -> str | None:
    return None if manifest.settings is None else json.dumps(manifest.settings, sort_keys=True)


def _policy(name: str, policy: Policy, store: Store) -> dict[str, Any]:
    return {name: policy.digest, "policy_uri": store.uri_of(policy.weights_uri)}


def _lineage(manifest: StepManifest | EvaluationManifest) -> dict[str, Any]:
    return {
        "config_digest": manifest.config_digest,
        "code_version": manifest.versions.get("code"),
        "created_at": datetime.fromisoformat(manifest.created_at),
    }
