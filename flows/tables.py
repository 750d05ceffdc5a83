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

from infra.terminal import harmless

if TYPE_CHECKING:
    from flows.replay import Replay
    from infra.analytics.sql import Form
    from infra.doctor import Check
    from infra.survey import Survey


def out() -> Console:
    """For stdout: a pipe or a file has no edge at which tables must be cut."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def print_answer(answer: pa.Table, form: Form) -> None:
    """Write what `infra.analytics.answer` made for `form`, a part at a time where programs read; JSON is one array."""
    if form == "table":
        out().print(_answer_table(answer))
    elif form == "csv":
        sys.stdout.flush()
        pa_csv.write_csv(answer, sys.stdout.buffer, pa_csv.WriteOptions(quoting_style="needed"))
    else:
        _write_json(answer)


def _answer_table(answer: pa.Table) -> Table:
    table = Table(header_style="bold")
    for name in answer.column_names:
        table.add_column(plain(name))
    for row in zip(*(column.to_pylist() for column in answer.columns), strict=True):
        table.add_row(*(plain(text or "") for text in row))
    return table


def _write_json(answer: pa.Table) -> None:
    before = "["
    for batch in answer.to_batches(max_chunksize=1024):
        for row in batch.column(0).to_pylist():
            sys.stdout.write(before + row)
            before = ",\n"
    sys.stdout.write("]\n" if before != "[" else "[]\n")


def print_checks(checks: Sequence[Check], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]missing[/]" if check.required else "[yellow]absent[/]"
        detail = plain(check.detail)
        if not check.ok and check.remedy:
            detail.append(f"\n{harmless(check.remedy)}", style="dim")
        table.add_row(mark, plain(check.name), detail)
    out().print(table)


_COMPARED = (
    *("loss", "grad_norm", "clip_fraction", "approx_kl", "entropy", "trained_tokens", "learning_rate"),
    *("skipped_updates", "signal_share", "reward", "accuracy"),
)


def print_replay(result: Replay) -> None:
    """The original step and its replay side by side, then whether they are equal."""
    was, now = result.original, result.replay
    title = plain(f"{result.campaign}, step {result.step}")
    table = Table("", "original", "replay", title=title, header_style="bold")
    for name, (before, after) in sorted(result.changed.items()):
        table.add_row(Text(name, style="bold"), plain(str(before)), plain(str(after)))
    for name in _COMPARED:
        table.add_row(name, *(_cell(side.metrics.get(name)) for side in (was, now)))
    table.add_row("update, L2 norm", _cell(was.update_norm), _cell(now.update_norm))
    table.add_row("weights", was.weights[:16], now.weights[:16])
    table.add_row("optimizer state", *((side.optimizer or "")[:16] for side in (was, now)))
    console = out()
    console.print(table)
    for line in _replay_lines(result):
        console.print(plain(line), soft_wrap=True)


def _replay_lines(result: Replay) -> Iterator[str]:
    if result.equal:
        yield "equal: weights and optimizer state are the step's own, bit for bit"
    else:
        far = "unknown: its weights are no longer stored" if result.distance is None else f"{result.distance:.3g}"
        yield f"not equal: distance to the step's own weights, as a share of its update: {far}"
    if result.regraded is None:
        yield f"nothing was judged again: the verdicts are those of grader {result.grader}, and this torl has another"
    elif result.regraded:
        yield f"{result.regraded} responses were judged otherwise than in the step"
    if result.versions_differ and not result.equal:
        yield "since the step changed: " + ", ".join(
            f"{name} {then} to {now}" for name, (then, now) in sorted(result.versions_differ.items())
        )
    if result.saved:
        yield f"saved: {result.saved}"


def print_surveys(found: Sequence[Survey]) -> None:
    """Each set of problems: what was taken, a table of its sources, its rejected rows and some prompts."""
    console = out()
    for one in found:
        console.print(_facts(one))
        console.print(_sources_table(one))
        for title, lines in _survey_lists(one):
            console.print(Text(title, style="bold"))
            for line in lines:
                console.print(plain(f"  {line}"), soft_wrap=True)
        for sample in one.samples:
            console.print(plain(f"{sample.problem_id} ({sample.source}), answer {sample.answer}"), style="bold")
            console.print(plain(sample.prompt), soft_wrap=True)
        console.print()


def _facts(one: Survey) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row(Text(one.setting, style="bold"), plain(one.location))
    for location, columns in one.columns.items():
        table.add_row("columns", plain(columns if len(one.columns) == 1 else f"{location}: {columns}"))
    table.add_row("rows", f"{one.problems} problems, {one.rejected} rejected")
    table.add_row("digest", one.digest)
    if one.first_step:
        table.add_row("first step", plain(", ".join(f"{count} {name}" for name, count in one.first_step.items())))
    return table


def _sources_table(one: Survey) -> Table:
    units = {source.lengths.unit for source in one.sources.values() if source.lengths}
    table = Table("source", header_style="bold")
    for name in ("problems", "rejected", f"prompt, {'/'.join(units)}: shortest", "median", "longest"):
        table.add_column(name, justify="right")
    for name, source in one.sources.items():
        lengths = source.lengths
        cells = (lengths.shortest, lengths.median, lengths.longest) if lengths else ()
        table.add_row(plain(name), *(_cell(value) for value in (source.problems, source.rejected, *cells)))
    return table


def _survey_lists(one: Survey) -> Iterator[tuple[str, Sequence[str]]]:
    if one.refusals:
        yield "A campaign would not start", one.refusals
    if one.reasons:
        yield "Reasons of rejected rows", [f"{count} x {reason}" for reason, count in one.reasons.items()]
        yield "The first of them", [f"{row.file}:{row.line}: {row.reason}" for row in one.first_rejected]


def plain(text: str) -> Text:
    """`text` as it is: no markup, no emoji codes, and nothing that drives a terminal."""
    return Text(harmless(text))


def _cell(value: Any) -> Text:
    return plain("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
