"""How results look on stdout: a rich table for people, CSV or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.doctor import Check


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
        Console().print(shown)


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
    Console().print(table)


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
