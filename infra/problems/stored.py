"""Problems and rejected rows in a store, by content, so that a campaign can name exactly what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from infra.problems.rows import Rejected
from infra.storage import Ref, Store, get_table, put_table
from torl_core.types import Problem


def put_problems(store: Store, problems: Sequence[Problem]) -> Ref:
    columns = {
        name: [getattr(problem, name) for problem in problems]
        for name in ("problem_id", "statement", "answer", "source")
    }
    metadata = [json.dumps(dict(problem.metadata), sort_keys=True, ensure_ascii=False) for problem in problems]
    schema = pa.schema([(name, pa.string()) for name in (*columns, "metadata")])
    return put_table(store, "problems", pa.table(columns | {"metadata": metadata}, schema=schema), prefix="")


def get_problems(store: Store, ref: Ref) -> list[Problem]:
    rows = get_table(store, ref).to_pylist()
    return [Problem(**(row | {"metadata": json.loads(row["metadata"])})) for row in rows]


def put_rejected(store: Store, rejected: Sequence[Rejected]) -> Ref | None:
    """List rejected rows in the store as JSON lines; None when there are none."""
    if not rejected:
        return None
    lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected)
    data = "".join(lines).encode(errors="backslashreplace")  # half a character becomes the escape that JSON has for it
    key, digest = store.put_object("rejected", data, suffix=".jsonl")
    return Ref(key, digest, rows=len(rejected), bytes=len(data))
