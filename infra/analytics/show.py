"""One trajectory for a person: what the model wrote, what the tool answered, what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import duckdb
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.analytics.database import ask
from infra.storage import Store
from infra.storage.damage import OnDamage, refuse
from infra.terminal import harmless
from torl_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text by one author, and how many tokens it is."""

    author: Literal["prompt", "model", "tool"]
    text: str
    tokens: int

    @property
    def is_trained(self) -> bool:
        return self.author == "model"


def find(store: Store, trajectory_id: str, on_damage: OnDamage = refuse) -> dict[str, Any]:
    """The row of one training or evaluation response; the id may be shortened as long as one response has it.

    Raises DataError when none has it, or several, and StoreError as `ask`, whose `on_damage` this is.
    """
    return ask(store, partial(_find, store, trajectory_id), on_damage)


def _find(store: Store, trajectory_id: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    either = "(SELECT * FROM trajectories UNION ALL BY NAME SELECT * FROM evaluations)"
    ids = connection.execute(
        f"SELECT trajectory_id FROM {either} WHERE starts_with(trajectory_id, ?) "
        "ORDER BY trajectory_id <> ?, trajectory_id LIMIT 4",
        [trajectory_id, trajectory_id],
    ).fetchall()
    if not ids or (len(ids) > 1 and ids[0][0] != trajectory_id):
        raise DataError(
            f"{len(ids) or 'no'}{' or more' if len(ids) == 4 else ''} trajectories in {store.uri} begin with "
            f"{trajectory_id!r}" + "".join(f", {name}" for (name,) in ids[:3]),
            "A trajectory is named by its id, or by a beginning that no other has",
            f"List them with: torl sql {store.uri} 'SELECT trajectory_id, step, correct FROM trajectories'",
        )
    relation = connection.sql(f"SELECT * FROM {either} WHERE trajectory_id = ? LIMIT 1", params=[ids[0][0]])
    row: dict[str, Any] = relation.to_arrow_table().to_pylist(maps_as_pydicts="strict")[0]
    return row


def spans(row: Mapping[str, Any]) -> list[Span]:
    """The text of a trajectory's row by author, in order, with control characters as visible escapes."""
    response = row["response"]
    written = [
        Span(s["author"], harmless(response[s["text_start"] : s["text_start"] + s["text_length"]]), s["length"])
        for s in row["segments"]
    ]
    return [Span("prompt", harmless(row["prompt_text"]), row["prompt_tokens"]), *written]


def verdict(row: Mapping[str, Any]) -> str:
    if row["grade_reason"] is None:
        return "not graded"
    return {True: "right", False: "wrong", None: "could not be judged"}[row["correct"]]


_BORDERS = {"prompt": "bright_black", "model": "cyan", "tool": "yellow"}
_VERDICTS = {"right": "bold green", "wrong": "bold red"}


def show(store: Store, trajectory_id: str, on_damage: OnDamage = refuse) -> RenderableType:
    """A rich renderable. Titles tell whose text is whose, so it reads without colour. Raises as `find` does."""
    row = find(store, trajectory_id, on_damage)
    parts: list[RenderableType] = [_facts(row), *(_panel(span) for span in spans(row))]
    return Group(*parts, *([_calls(row)] if row["tool_calls"] else []))


def _facts(row: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", justify="right")
    table.add_column(overflow="fold")
    outcome = verdict(row)
    terms = "  ".join(f"{name} {value:+g}" for name, value in (row["reward_terms"] or {}).items())
    facts = {
        "trajectory": row["trajectory_id"],
        "campaign": f"{row['campaign']}, step {row['step']}, policy {row['policy_version']}",
        "problem": " · ".join(filter(None, (row["problem_id"], row["source"], row["kind"]))),
        "gold answer": row["gold_answer"],
        "answer": Text.assemble(
            f"{harmless(row['extracted_answer'] or 'none')}  ",
            (outcome, _VERDICTS.get(outcome, "bold")),
            f", by grader {row['grader']}" if row["grader"] else "",
        ),
        "reward": "none" if row["reward"] is None else f"{row['reward']:g}  ({terms})",
        "advantage": _advantage(row["advantage"]),
        "tokens": f"{row['prompt_tokens']} prompt, {row['model_tokens']} model, {row['tool_tokens']} tool; "
        + {"end": "the model ended it", "length": "cut by the token budget"}[row["stop"]],
        "calls": _calls_in_words(row),
        "time": f"{row['total_s']:.2f} s: generating {row['generate_s']:.2f}, executing {row['execute_s']:.2f}",
    }
    for name, value in facts.items():
        table.add_row(name, value if isinstance(value, Text) else Text(harmless(value)))
    return table


def _calls_in_words(row: Mapping[str, Any]) -> str:
    unrecognised = row["unrecognised_calls"]
    counts = f"{len(row['tool_calls'])} executed, {row['refused_calls']} refused"
    return counts if unrecognised is None else f"{counts}, {unrecognised} that only look like a call"


def _advantage(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:+.3f}" if value else "0: its whole group scored the same, so nothing is learned from it"


def _panel(span: Span) -> Panel:
    loss = "trained" if span.is_trained else "no loss"
    title = f"{span.author} · {span.tokens} tokens · {loss}"
    style = _BORDERS[span.author]
    return Panel(
        Text(span.text, style="dim" if span.author == "prompt" else ""),
        title=title,
        title_align="left",
        border_style=style,
    )


def _calls(row: Mapping[str, Any]) -> Table:
    table = Table("call", "blocks", "status", "ran", "waited", "exit", "stdout", "stderr", title_justify="left")
    for number, call in enumerate(row["tool_calls"], start=1):
        blocks, exit_code = ("" if call[name] is None else str(call[name]) for name in ("blocks", "exit_code"))
        texts = [Text(harmless(call[name].strip()), overflow="fold") for name in ("stdout", "stderr")]
        status = Text(harmless(call["status"]), style="green" if call["status"] == "ok" else "red")
        times = (f"{call[name]:.3f} s" for name in ("duration_s", "queued_s"))
        table.add_row(str(number), blocks, status, *times, exit_code, *texts)
    return table
