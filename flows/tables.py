"""How results look on stdout: a rich table for people, CSV or JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.doctor import Check

if TYPE_CHECKING:
    from flows.replay import Replay


def out() -> Console:
    """For stdout: a pipe or a file has no edge at which tables must be cut."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def print_table(table: pa.Table, form: str) -> None:
    """`form`: table, csv or json (one array of objects). Nested values become JSON in csv."""
    if form == "json":
        print(json.dumps(table.to_pylist(), default=str))
    elif form == "csv":
        print(_as_csv(table), end="")
    else:
        shown = Table(*table.column_names, header_style="bold")
        for row in table.to_pylist():
            shown.add_row(*(_cell(value) for value in row.values()))
        out().print(shown)


def print_checks(checks: Sequence[Check], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]missing[/]" if check.required else "[yellow]absent[/]"
        detail = Text(check.detail)
        if not check.ok and check.remedy:
            detail.append(f"\n{check.remedy}", style="dim")
        table.add_row(mark, check.name, detail)
    out().print(table)


_COMPARED = (
    *("loss", "grad_norm", "clip_fraction", "approx_kl", "entropy", "trained_tokens", "learning_rate"),
    *("skipped_updates", "signal_share", "reward", "accuracy"),
)


def print_replay(result: Replay) -> None:
    """The original step and its replay side by side, then whether they are equal."""
    was, now = result.original, result.replay
    table = Table("", "original", "replay", title=f"{result.campaign}, step {result.step}", header_style="bold")
    for name, (before, after) in sorted(result.changed.items()):
        table.add_row(Text(name, style="bold"), str(before), str(after))
    for name in _COMPARED:
        table.add_row(name, *(_cell(side.metrics.get(name)) for side in (was, now)))
    table.add_row("update, L2 norm", _cell(was.update_norm), _cell(now.update_norm))
    table.add_row("weights", was.weights[:16], now.weights[:16])
    table.add_row("optimizer state", *((side.optimizer or "")[:16] for side in (was, now)))
    console = out()
    console.print(table)
    for line in _replay_lines(result):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _replay_lines(result: Replay) -> Iterator[str]:
    if result.equal:
        yield "equal: weights and optimizer state are the step's own, bit for bit"
    else:
        far = "unknown: its weights are no longer stored" if result.distance is None else f"{result.distance:.3g}"
        yield f"not equal: distance to the step's own weights, as a share of its update: {far}"
    if result.regraded:
        yield f"{result.regraded} responses were judged otherwise than in the step"
    if result.versions_differ and not result.equal:
        yield "since the step changed: " + ", ".join(
            f"{name} {then} to {now}" for name, (then, now) in sorted(result.versions_differ.items())
        )
    if result.saved:
        yield f"saved: {result.saved}"


def _as_csv(table: pa.Table) -> str:
    flat = {
        name: pa.array([json.dumps(value, default=str) for value in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(pa.table(flat), sink, pa_csv.WriteOptions(quoting_style="needed"))
    return bytes(sink.getvalue()).decode()


def _cell(value: Any) -> Text:
    return Text("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
