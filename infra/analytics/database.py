"""DuckDB over a store: nothing is imported or copied, the views read the store's Parquet files in place."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

import duckdb
import pyarrow as pa

from infra.storage import EvaluationManifest, Ref, StepManifest, Store, campaigns
from infra.storage.rows import SCHEMA
from torl_core.errors import DataError, StoreError
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
        ("trajectory_files", pa.list_(pa.string())),
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


def open_views(store: Store) -> duckdb.DuckDBPyConnection:
    """A connection with the views of views.sql over what `store` has committed; an empty store gives empty views.

    Raises StoreError when the store cannot be read.
    """
    connection = duckdb.connect()
    if not store.is_local:
        connection.register_filesystem(store.fs)
    found = campaigns(store)
    steps = [step for campaign in found for step in campaign.steps()]
    evaluations = [evaluation for campaign in found for evaluation in campaign.evaluations()]
    configs = [_config_row(config) for campaign in found if (config := campaign.config())]
    connection.execute("CREATE SCHEMA raw")
    _table(connection, "campaigns", configs, _CAMPAIGNS)
    _table(connection, "steps", [_step_row(step, store) for step in steps], _STEPS)
    _table(connection, "evaluations", [_evaluation_row(e, store) for e in evaluations], _EVALUATIONS)
    try:
        _step_rows(connection, store, [ref for step in steps for ref in step.trajectories])
        _evaluation_rows(connection, store, [ref for e in evaluations for ref in e.trajectories])
        connection.execute(files(__package__).joinpath("views.sql").read_text())
    except duckdb.Error as error:
        raise _unreadable(store, error) from error
    return connection


def query(store: Store, sql: str) -> pa.Table:
    """The result of one SELECT (or SHOW, DESCRIBE, SUMMARIZE, FROM) over the views.

    Raises DataError for SQL that is not one such statement or does not run, StoreError for files that cannot be read.
    """
    try:
        kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    except duckdb.Error as error:
        raise _bad_sql(error, "Correct the SQL") from error
    if kinds != [duckdb.StatementType.SELECT]:
        raise DataError(
            f"{sql.strip()[:80]!r} is not one SELECT",
            "A store is read-only: one SELECT, FROM, SHOW, DESCRIBE or SUMMARIZE statement at a time",
            "Ask one question; to keep its answer, redirect the output",
        )
    with open_views(store) as connection:
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.IOException as error:
            raise _unreadable(store, error) from error
        except duckdb.Error as error:
            names = ", ".join(name for (name, *_) in connection.sql("SHOW TABLES").fetchall())
            raise _bad_sql(error, f"The views are {names}; DESCRIBE one to see its columns") from error


def _bad_sql(error: duckdb.Error, remedy: str) -> DataError:
    return DataError(f"the query does not run: {error}", "It is written in DuckDB's SQL", remedy)


def _unreadable(store: Store, error: duckdb.Error) -> StoreError:
    return StoreError(
        f"trajectories in {store.uri} cannot be read ({error})",
        "Every file that a manifest names is there and whole",
        "Restore the file from a copy of the store",
    )


def _step_rows(connection: duckdb.DuckDBPyConnection, store: Store, refs: Sequence[Ref]) -> None:
    """A view raw.step_rows over the files of `refs`, with their hive partitions as columns in front."""
    columns = ", ".join(_STEP_PARTITION)
    if not refs:
        _table(connection, "step_rows", [], pa.schema([*_STEP_PARTITION.items(), *SCHEMA]))
        return
    types = ", ".join(f"{column}: {_SQL_TYPES[kind]}" for column, kind in _STEP_PARTITION.items())
    connection.execute(
        f"CREATE VIEW raw.step_rows AS SELECT {columns}, * EXCLUDE ({columns}) "
        f"FROM read_parquet({_paths(store, refs)}, hive_partitioning = true, hive_types = {{{types}}})"
    )


def _evaluation_rows(connection: duckdb.DuckDBPyConnection, store: Store, refs: Sequence[Ref]) -> None:
    """A view raw.evaluation_rows over the files of `refs`; `file` leads to the manifest that names it.

    The folders are not read as hive partitions: earlier versions of torl named them otherwise.
    """
    if not refs:
        _table(connection, "evaluation_rows", [], pa.schema([*SCHEMA, ("file", pa.string())]))
        return
    connection.execute(
        "CREATE VIEW raw.evaluation_rows AS "
        f"FROM read_parquet({_paths(store, refs)}, hive_partitioning = false, filename = 'file')"
    )


def _paths(store: Store, refs: Sequence[Ref]) -> str:
    return "[" + ", ".join(_quoted(glob.escape(store.uri_of(ref.key))) for ref in refs) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _table(connection: duckdb.DuckDBPyConnection, name: str, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    connection.register("incoming", pa.Table.from_pylist(list(rows), schema=schema))
    connection.execute(f"CREATE TABLE raw.{name} AS FROM incoming")
    connection.unregister("incoming")


def _config_row(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "campaign": config["name"],
        "max_calls": config["tool"]["max_calls"],
        "steps_planned": config["steps"],
        "seed": config["seed"],
        "model": config["model"]["path"],
        "config": json.dumps(config, sort_keys=True),
    }


def _step_row(step: StepManifest, store: Store) -> dict[str, Any]:
    return {
        "campaign": step.campaign,
        "step": step.step,
        "responses": sum(ref.rows for ref in step.trajectories),
        "metrics": list(step.metrics.items()),
        "phases_s": list(step.phases_s.items()),
        "policy_in": step.policy_in.digest,
        **_policy("policy_out", step.policy_out, store),
        "trajectory_files": [store.uri_of(ref.key) for ref in step.trajectories],
        **_lineage(step),
    }


def _evaluation_row(evaluation: EvaluationManifest, store: Store) -> dict[str, Any]:
    same = ("campaign", "step", "benchmark", "temperature", "samples", "max_calls", "duration_s")
    return {
        **{name: getattr(evaluation, name) for name in same},
        "evaluation": evaluation.identity,
        "problems_digest": evaluation.problems.digest if evaluation.problems else None,
        "files": [store.uri_of(ref.key) for ref in evaluation.trajectories],
        "metrics": list(evaluation.metrics.items()),
        **_policy("policy", evaluation.policy, store),
        **_lineage(evaluation),
    }


def _policy(name: str, policy: Policy, store: Store) -> dict[str, Any]:
    return {name: policy.digest, "policy_uri": store.uri_of(policy.weights_uri)}


def _lineage(manifest: StepManifest | EvaluationManifest) -> dict[str, Any]:
    return {
        "config_digest": manifest.config_digest,
        "code_version": manifest.versions.get("code"),
        "created_at": datetime.fromisoformat(manifest.created_at),
    }
