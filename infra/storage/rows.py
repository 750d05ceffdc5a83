"""Trajectories as rows of a table, and back. Pure conversion; reading and writing is elsewhere.

One schema serves rows before grading (the verdict's columns are null), after it, and evaluations. Files and manifests
carry its version; a change to either that readers would notice raises it, and older versions stay readable. A column
or a call's field that a file does not have is null, so that another nullable one needs no new version. docs/store.md
describes every column. Everything in a `Record` comes back equal, log-probabilities as float32. Columns after
`discarded_tokens` that no Record field feeds are views, for people and for SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from torl_core.errors import StoreError
from torl_core.grading.extract import prose
from torl_core.protocols import Codec
from torl_core.tool_calls import read
from torl_core.types import CallStatus, Grade, Problem, Prompt, Reward, Segment, Timing, ToolCall, Trajectory

SCHEMA_VERSION = 2
FIRST_GRADER = "1"
"""The version of the grader that judged whatever was stored without naming one."""
VERSION_KEY = b"torl.schema_version"

_SEGMENT = pa.struct(
    [
        ("author", pa.string()),  # model or tool
        ("start", pa.int32()),  # token range, counted in token_ids
        ("length", pa.int32()),
        ("text_start", pa.int32()),  # character range, counted from 0 in response
        ("text_length", pa.int32()),
    ]
)
_CALL = pa.struct(
    [
        ("code", pa.string()),
        ("status", pa.string()),
        ("stdout", pa.string()),
        ("stderr", pa.string()),
        ("duration_s", pa.float64()),
        ("queued_s", pa.float64()),
        ("exit_code", pa.int32()),
        ("cpu_s", pa.float64()),
        ("peak_memory_bytes", pa.int64()),
        ("blocks", pa.int32()),  # of the response, joined to this code; null: version 1 of the schema
    ]
)
SCHEMA = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("group_id", pa.string()),
        ("policy_version", pa.int64()),
        ("problem_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),  # metadata's "kind" or "subject", where there is one
        ("statement", pa.string()),
        ("gold_answer", pa.string()),
        ("problem_metadata", pa.string()),  # JSON
        ("template", pa.string()),
        ("stop", pa.string()),
        ("dialect", pa.int32()),  # of the tool protocol; null: version 1 of the schema
        ("token_ids", pa.list_(pa.int32())),  # (T), prompt included
        ("loss_mask", pa.list_(pa.bool_())),  # (T)
        ("logprobs", pa.list_(pa.float32())),  # (T), 0 where the mask is false
        ("segments", pa.list_(_SEGMENT)),
        ("tool_calls", pa.list_(_CALL)),
        ("refused_calls", pa.int32()),
        ("discarded_tokens", pa.int32()),
        ("generate_s", pa.float64()),
        ("execute_s", pa.float64()),
        ("total_s", pa.float64()),
        ("prompt_text", pa.string()),
        ("response", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("model_tokens", pa.int32()),
        ("tool_tokens", pa.int32()),
        ("n_code_blocks", pa.int32()),  # python blocks the model wrote and closed
        ("unrecognised_calls", pa.int32()),  # what looks like a request and is none; null: version 1 of the schema
        ("code_before_answer", pa.bool_()),  # null without a code block or without a box
        ("correct", pa.bool_()),  # null: not graded, or could not be judged
        ("extracted_answer", pa.string()),
        ("grade_reason", pa.string()),  # null: not graded
        ("grader", pa.string()),  # its version; null: not graded, or by FIRST_GRADER
        ("reward", pa.float64()),
        ("reward_terms", pa.map_(pa.string(), pa.float64())),
        ("advantage", pa.float64()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION)},
)

_READ = [
    *("trajectory_id", "group_id", "policy_version", "problem_id", "source", "statement", "gold_answer"),
    *("problem_metadata", "template", "stop", "dialect", "segments", "tool_calls", "refused_calls", "discarded_tokens"),
    *("generate_s", "execute_s", "total_s", "prompt_tokens"),
    *("correct", "extracted_answer", "grade_reason", "grader", "reward_terms", "advantage"),
]
"""What a Record is made from, beside its tokens; the other columns are views of these."""


@dataclass(frozen=True, slots=True)
class Record:
    """A trajectory with its problem and, once known, its verdict, reward and advantage."""

    trajectory: Trajectory
    problem: Problem
    grade: Grade | None = None
    reward: Reward | None = None
    advantage: float | None = None


def records_to_table(records: Sequence[Record], codec: Codec) -> pa.Table:
    """One row per record, in order. `codec` makes the text views."""
    trajectories = [record.trajectory for record in records]
    long = {
        "token_ids": _lists([t.token_ids for t in trajectories], np.int32),
        "loss_mask": _lists([t.loss_mask for t in trajectories], np.bool_),
        "logprobs": _lists([t.logprobs for t in trajectories], np.float32),
    }
    rows = [_row(record, codec) for record in records]
    columns = [
        long[field.name] if field.name in long else pa.array([row[field.name] for row in rows], field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def table_to_records(table: pa.Table) -> list[Record]:
    """Inverse of `records_to_table`. Raises as `conformed`."""
    table = conformed(table)
    rows = table.select(_READ).to_pylist(maps_as_pydicts="strict")
    long = (_slices(table.column(name)) for name in ("token_ids", "logprobs"))
    return [_record(row, ids, logprobs) for row, ids, logprobs in zip(rows, *long, strict=True)]


def model_texts(table: pa.Table) -> list[list[str]]:
    """(rows) what the model itself wrote: a text for each of its segments, none for the tool's."""
    authors, starts, lengths = (_nested(table, "segments", name) for name in ("author", "text_start", "text_length"))
    return [
        [text[a : a + n] for author, a, n in zip(*segments, strict=True) if author == "model"]
        for text, *segments in zip(table.column("response").to_pylist(), authors, starts, lengths, strict=True)
    ]


def call_statuses(table: pa.Table) -> list[list[CallStatus]]:
    """(rows) how each executed call ended."""
    return _nested(table, "tool_calls", "status")


def stored_grades(table: pa.Table) -> list[Grade]:
    """(rows) the verdicts in rows that were graded."""
    names = ("correct", "extracted_answer", "grade_reason", "grader")
    return list(map(Grade, *(table.column(name).to_pylist() for name in names)))


def with_verdicts(
    table: pa.Table,
    grades: Sequence[Grade | None],
    rewards: Sequence[Reward | None],
    advantages: Sequence[float | None],
) -> pa.Table:
    """`table` with the columns that grading and rewarding decide, one entry of each argument a row."""
    rows = [_verdict(*verdict) for verdict in zip(grades, rewards, advantages, strict=True)]
    for name in rows[0] if rows else ():
        index = SCHEMA.get_field_index(name)
        table = table.set_column(index, SCHEMA[index], pa.array([row[name] for row in rows], SCHEMA[index].type))
    return table


def table_to_trajectories(table: pa.Table) -> list[Trajectory]:
    """Only what was sampled."""
    return [record.trajectory for record in table_to_records(table)]


# --- one row


def _row(record: Record, codec: Codec) -> dict[str, Any]:
    t, problem = record.trajectory, record.problem
    texts = [codec.decode(segment.token_ids) for segment in t.segments]
    by_author = {
        author: sum(len(s.token_ids) for s in t.segments if s.author == author) for author in ("model", "tool")
    }
    return {
        "trajectory_id": t.trajectory_id,
        "group_id": t.group_id,
        "policy_version": t.policy_version,
        "problem_id": problem.problem_id,
        "source": problem.source,
        "kind": _kind(problem.metadata),
        "statement": problem.statement,
        "gold_answer": problem.answer,
        "problem_metadata": json.dumps(dict(problem.metadata), sort_keys=True, ensure_ascii=False),
        "template": t.prompt.template,
        "stop": t.stop,
        "dialect": t.dialect,
        "segments": _segment_rows(t, texts),
        "tool_calls": [{name: getattr(call, name) for name in _CALL.names} for call in t.tool_calls],
        "refused_calls": t.refused_calls,
        "discarded_tokens": t.discarded_tokens,
        "generate_s": t.timing.generate_s,
        "execute_s": t.timing.execute_s,
        "total_s": t.timing.total_s,
        "prompt_text": codec.decode(t.prompt.token_ids),
        "response": "".join(texts),
        "prompt_tokens": len(t.prompt.token_ids),
        "model_tokens": by_author["model"],
        "tool_tokens": by_author["tool"],
        **text_features(
            [text for text, s in zip(texts, t.segments, strict=True) if s.author == "model"], t.dialect or 1
        ),
        **_verdict(record.grade, record.reward, record.advantage),
    }


def _verdict(grade: Grade | None, reward: Reward | None, advantage: float | None) -> dict[str, Any]:
    return {
        "correct": grade.correct if grade else None,
        "extracted_answer": grade.extracted if grade else None,
        "grade_reason": grade.reason if grade else None,
        "grader": grade.grader if grade else None,
        "reward": float(reward.value) if reward else None,
        "reward_terms": list(reward.terms.items()) if reward else None,
        "advantage": advantage,
    }


def _segment_rows(t: Trajectory, texts: Sequence[str]) -> list[dict[str, Any]]:
    starts = accumulate((len(s.token_ids) for s in t.segments), initial=len(t.prompt.token_ids))
    text_starts = accumulate(map(len, texts), initial=0)
    return [
        {"author": s.author, "start": a, "length": len(s.token_ids), "text_start": b, "text_length": len(text)}
        for s, a, b, text in zip(t.segments, starts, text_starts, texts, strict=False)
    ]


def _record(row: Mapping[str, Any], ids: tuple[int, ...], logprobs: tuple[float, ...]) -> Record:
    graded, rewarded = row["grade_reason"] is not None, row["reward_terms"] is not None
    return Record(
        _trajectory(row, ids, logprobs),
        Problem(
            row["problem_id"], row["statement"], row["gold_answer"], row["source"], json.loads(row["problem_metadata"])
        ),
        Grade(row["correct"], row["extracted_answer"], row["grade_reason"], row["grader"]) if graded else None,
        Reward(row["reward_terms"]) if rewarded else None,
        row["advantage"],
    )


def _trajectory(row: Mapping[str, Any], ids: tuple[int, ...], logprobs: tuple[float, ...]) -> Trajectory:
    def segment(author: Any, start: int, length: int) -> Segment:
        end = start + length
        return Segment(author, ids[start:end], logprobs[start:end] if author == "model" else None)

    return Trajectory(
        trajectory_id=row["trajectory_id"],
        group_id=row["group_id"],
        policy_version=row["policy_version"],
        prompt=Prompt(row["problem_id"], row["template"], ids[: row["prompt_tokens"]]),
        segments=tuple(segment(s["author"], s["start"], s["length"]) for s in row["segments"]),
        tool_calls=tuple(ToolCall(**call) for call in row["tool_calls"]),
        stop=row["stop"],
        refused_calls=row["refused_calls"],
        discarded_tokens=row["discarded_tokens"],
        timing=Timing(row["generate_s"], row["execute_s"], row["total_s"]),
        dialect=row["dialect"],
    )


# --- what the text shows

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_MARK = "\x00"


def text_features(model_texts: Sequence[str], dialect: int) -> dict[str, Any]:
    """Of the model's segments: how many code blocks, what only looks like a request, and whether a block was closed
    before the last box outside code.

    The last is None without a code block or without a box.
    """
    readings = [read(text, dialect) for text in model_texts]
    blocks = [len(reading.blocks) for reading in readings]
    before: bool | None = None
    if any(blocks) and (box := _last_box(model_texts)):
        index, position = box
        before = any(blocks[:index]) or bool(read(model_texts[index][:position], dialect).blocks)
    unrecognised = sum(reading.unrecognised for reading in readings)
    return {"n_code_blocks": sum(blocks), "unrecognised_calls": unrecognised, "code_before_answer": before}


def _last_box(texts: Sequence[str]) -> tuple[int, int] | None:
    """(segment, character) where the last box outside fenced blocks begins."""
    for index in reversed(range(len(texts))):
        text = texts[index]
        for match in reversed(list(_BOX.finditer(text))):
            if _MARK in prose(text[: match.start()] + _MARK):
                return index, match.start()
    return None


def _kind(metadata: Mapping[str, Any]) -> str | None:
    kind = metadata.get("kind", metadata.get("subject"))
    return None if kind is None else str(kind)


def _nested(table: pa.Table, column: str, name: str) -> list[list[Any]]:
    """(rows) one field of a column of lists of structs."""
    array = table.column(column).combine_chunks()
    values, offsets = array.flatten().field(name).to_pylist(), array.offsets.to_pylist()
    return [values[a - offsets[0] : b - offsets[0]] for a, b in pairwise(offsets)]


def _slices(column: pa.ChunkedArray) -> list[tuple[Any, ...]]:
    """Inverse of `_lists`."""
    array = column.combine_chunks()
    values, offsets = array.flatten().to_pylist(), array.offsets.to_pylist()
    return [tuple(values[a - offsets[0] : b - offsets[0]]) for a, b in pairwise(offsets)]


def _lists(rows: Sequence[Sequence[Any]], dtype: Any) -> pa.Array:
    """(rows) lists of numbers, built flat: several times faster than through Python objects."""
    offsets = np.fromiter(accumulate(map(len, rows), initial=0), np.int32, len(rows) + 1)
    values = np.fromiter(chain.from_iterable(rows), dtype, int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def conformed(table: pa.Table) -> pa.Table:
    """`table` under exactly `SCHEMA`: null where it has no such column or field, without what `SCHEMA` does not know.

    Raises StoreError for a table of a newer schema version, or of none.
    """
    found = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
    if not found.isdigit() or int(found) > SCHEMA_VERSION:
        raise StoreError(*newer_version("the trajectory table", found))
    if table.schema.equals(SCHEMA, check_metadata=True):
        return table
    columns = [
        table.column(field.name) if field.name in table.schema.names else pa.nulls(len(table), field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


def newer_version(what: str, found: object) -> tuple[str, str, str]:
    """What, rule and remedy of the error."""
    return (
        f"{what} has schema version {found}",
        f"This version of torl reads versions up to {SCHEMA_VERSION}",
        "Install the torl that wrote it, or a newer one",
    )
