"""A page about everything in a store: one file, no script, no outside request, fit for screens and paper."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import jinja2

from infra.analytics import charts
from infra.analytics.database import ask
from infra.analytics.show import Span, spans, verdict
from infra.storage import Store
from infra.storage.damage import OnDamage, refuse
from infra.terminal import harmless
from torl_core.errors import ConfigError

Row = dict[str, Any]

_SMOOTH_FROM = 20
"""Curves with so many steps or more are drawn smoothed over five, beside the faint raw ones."""


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    note: str
    svg: str


@dataclass(frozen=True, slots=True)
class Example:
    """One trajectory to look at."""

    label: str
    row: Row
    verdict: str
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the lines of one table have in common, so that they can be compared."""

    benchmark: str
    temperature: float
    samples: int
    problems_digest: str | None
    grader: str


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of such a table: a campaign, evaluated at one C. `series` is the campaign's place on the page."""

    series: int
    label: str
    campaign: str
    max_calls: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before training and after it; after is None when there is only one evaluation."""

    before: float | None
    after: float | None


def report(store: Store, out: Path, on_damage: OnDamage = refuse) -> None:
    """Write the page to `out`. A store without a finished step gives a page that says so.

    What is damaged is handed to `on_damage`; unless that raises, the page is of everything else. Raises StoreError, and
    ConfigError where the page cannot be written: before the store is read, if that can be known.
    """
    with _refusing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(out if out.exists() else out.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    page = ask(store, partial(_page, store), on_damage)
    with _refusing(out):
        out.write_text(page, encoding="utf-8")


@contextmanager
def _refusing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written to {out} ({error.strerror})",
            "A report is a file in a folder that can be written",
            "Give another place with --out, or change the permissions",
        ) from error


def _page(store: Store, connection: duckdb.DuckDBPyConnection) -> str:
    names = [row["campaign"] for row in _query(connection, "FROM campaigns ORDER BY max_calls DESC, campaign")]
    names += [row["campaign"] for row in _query(connection, "SELECT DISTINCT campaign FROM steps ORDER BY 1")]
    campaigns = list(dict.fromkeys(names))
    scores = _query(connection, _SCORES)
    return _template().render(
        store=store.uri,
        made_at=datetime.now(UTC),
        campaigns=[_summary(connection, name, i, scores) for i, name in enumerate(campaigns)],
        learning=_curves(connection, campaigns, _LEARNING),
        figure5=_curves(connection, campaigns, _FIGURE5),
        evaluation_curves=_evaluation_curves(scores, campaigns),
        step_times=_step_times(connection, campaigns),
        phases=_phases(connection),
        tables=_evaluation_tables(scores, campaigns),
        sources=_source_tables(connection, campaigns),
        examples=_examples(connection),
    )


def _query(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> list[Row]:
    rows: list[Row] = connection.sql(sql, params=list(parameters)).to_arrow_table().to_pylist(maps_as_pydicts="strict")
    return rows


# --- curves

_LEARNING = (
    ("reward", "Mean reward", "over judged responses", False),
    (
        "accuracy",
        "Accuracy in training",
        "share of judged responses that are right, sampled at the training temperature",
        True,
    ),
    ("response_tokens", "Response length", "tokens, tool output included", False),
    ("truncated_share", "Cut by the token budget", "share of responses", True),
    ("ungraded_share", "Could not be judged", "share of responses; neither rewarded nor trained on", True),
    ("calls", "Calls per response", "executed ones", False),
)
_FIGURE5 = (
    ("code_ratio", "Code ratio", "share of responses in which the model wrote code", True),
    ("pass_ratio", "Pass ratio", "share of executed calls that ran without error", True),
    ("pass_ratio_in_right", "Pass ratio in right responses", "the same, where the answer was right", True),
    ("pass_ratio_in_wrong", "Pass ratio in wrong responses", "the same, where the answer was wrong", True),
    ("executed_code_ratio", "Executed-code ratio", "executed calls per code block written", True),
    ("code_before_answer_ratio", "Code before the final answer", "share of responses with both, code first", True),
)


def _curves(
    connection: duckdb.DuckDBPyConnection, campaigns: Sequence[str], figures: Sequence[tuple[str, str, str, bool]]
) -> list[Chart]:
    """One chart per figure that has any value, one line per campaign."""
    rows = _query(connection, "SELECT * FROM progress LEFT JOIN figure5 USING (campaign, step) ORDER BY step")
    found = []
    for column, title, note, percent in figures:
        series = []
        for i, name in enumerate(campaigns):
            own = [row for row in rows if row["campaign"] == name]
            if any(row[column] is not None for row in own):
                values = [row[column] for row in own]
                series.append(charts.Line(name, [row["step"] for row in own], values, i))
        if series:
            longest = max(len(line.steps) for line in series)
            smooth = 5 if longest >= _SMOOTH_FROM else 1
            found.append(Chart(title, note, charts.lines(title, series, percent=percent, smooth=smooth)))
    return found


def _evaluation_curves(scores: Sequence[Row], campaigns: Sequence[str]) -> list[Chart]:
    """Accuracy over training per benchmark, where some campaign was evaluated more than twice."""
    found = []
    for setting in _settings(scores):
        series = []
        for arm in _arms(scores, campaigns, setting):
            own = _of(scores, arm, setting, None)
            series.append(charts.Line(arm.label, [r["step"] for r in own], [r["accuracy"] for r in own], arm.series))
        if any(len(line.steps) > 2 for line in series):
            title = f"Accuracy on {setting.benchmark}"
            svg = charts.lines(title, series, percent=True, markers=True)
            found.append(Chart(title, _how(setting, scores), svg))
    return found


_PHASE_ORDER = "SELECT phase FROM phases GROUP BY phase ORDER BY phase = 'overhead', sum(seconds) DESC"


def _phases(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [row["phase"] for row in _query(connection, _PHASE_ORDER)]


def _step_times(connection: duckdb.DuckDBPyConnection, campaigns: Sequence[str]) -> list[Chart]:
    """Stacked by phase; every campaign on the same scale. The largest step in a hundred may leave the picture."""
    rows = _query(connection, "FROM phases ORDER BY step")
    scale = _query(connection, "SELECT quantile_cont(step_time_s, 0.99) AS top, max(step_time_s) AS most FROM steps")[0]
    names, found = _phases(connection), []
    for campaign in campaigns:
        own = {(row["step"], row["phase"]): row["seconds"] for row in rows if row["campaign"] == campaign}
        steps = sorted({step for step, _ in own})
        if steps:
            parts = {phase: [own.get((step, phase), 0.0) for step in steps] for phase in names}
            top = scale["most"] if scale["most"] < 2 * scale["top"] else scale["top"]
            found.append(Chart(campaign, "", charts.stacked(f"Step time of {campaign}", steps, parts, top)))
    return found


# --- tables


_SCORES = """
FROM scores
QUALIFY row_number() OVER (
  PARTITION BY campaign, benchmark, temperature, samples, problems_digest, grader, max_calls, step, kind
  ORDER BY evaluated_at DESC, evaluation
) = 1
ORDER BY campaign, step, kind NULLS FIRST
"""
"""Where one policy was evaluated twice in the same setting, as under another limit of the sandbox, the newer one."""


def _setting(row: Row) -> Setting:
    return Setting(row["benchmark"], row["temperature"], row["samples"], row["problems_digest"], row["grader"])


def _settings(scores: Sequence[Row]) -> list[Setting]:
    return sorted(
        {_setting(row) for row in scores},
        key=lambda s: (s.temperature, s.benchmark, s.samples, s.problems_digest or "", s.grader),
    )


def _arms(scores: Sequence[Row], campaigns: Sequence[str], setting: Setting) -> list[Arm]:
    """A campaign that was evaluated at several C has a line for each."""
    found: list[Arm] = []
    for i, name in enumerate(campaigns):
        calls = {row["max_calls"] for row in scores if row["campaign"] == name and _setting(row) == setting}
        ordered = sorted(calls, key=lambda c: -1 if c is None else c, reverse=True)
        found += [Arm(i, name if len(calls) == 1 else f"{name}, C = {one}", name, one) for one in ordered]
    return found


def _how(setting: Setting, scores: Sequence[Row]) -> str:
    """The decoding, and the problems' digest and the grader where there are several under the benchmark's name."""
    parts = ["greedy" if setting.temperature == 0 else f"sampled at temperature {setting.temperature:g}"]
    parts += [f"{setting.samples} samples per problem"] if setting.samples > 1 else []
    digests, graders = (
        {row[name] for row in scores if row["benchmark"] == setting.benchmark} for name in ("problems_digest", "grader")
    )
    parts += [f"problems {(setting.problems_digest or 'not recorded')[:12]}"] if len(digests) > 1 else []
    parts += [f"judged by grader {setting.grader}"] if len(graders) > 1 else []
    return ", ".join(parts)


def _of(scores: Sequence[Row], arm: Arm, setting: Setting, kind: str | None) -> list[Row]:
    wanted = (arm.campaign, arm.max_calls, kind, setting)
    return [row for row in scores if (row["campaign"], row["max_calls"], row["kind"], _setting(row)) == wanted]


def _change(rows: Sequence[Row], column: str) -> Change:
    if not rows:
        return Change(None, None)
    return Change(rows[0][column], rows[-1][column] if len(rows) > 1 else None)


def _evaluation_tables(scores: Sequence[Row], campaigns: Sequence[str]) -> list[Row]:
    """Per benchmark: all figures over all problems, and accuracy by kind of problem."""
    tables = []
    for setting in _settings(scores):
        kinds = sorted({row["kind"] for row in scores if row["kind"] and _setting(row) == setting})
        arms = _arms(scores, campaigns, setting)
        whole = {arm.label: _of(scores, arm, setting, None) for arm in arms}
        columns = ("accuracy", "code_ratio", "pass_ratio", "reward", "response_tokens")
        tables.append(
            {
                "title": setting.benchmark,
                "decoding": _how(setting, scores),
                "responses": max(rows[0]["responses"] for rows in whole.values()),
                "campaigns": [(arm.series, arm.label) for arm in arms],
                "steps": {label: (rows[0]["step"], rows[-1]["step"]) for label, rows in whole.items()},
                "whole": {
                    label: {column: _change(rows, column) for column in columns} for label, rows in whole.items()
                },
                "kinds": {
                    kind: {arm.label: _change(_of(scores, arm, setting, kind), "accuracy") for arm in arms}
                    for kind in kinds
                },
            }
        )
    return tables


def _source_tables(connection: duckdb.DuckDBPyConnection, campaigns: Sequence[str]) -> list[Row]:
    """Per campaign on problems of several sources: the figures of training at each source's first and last step."""
    rows = _query(connection, "FROM sources WHERE benchmark IS NULL ORDER BY step")
    tables = []
    for i, name in enumerate(campaigns):
        by_source: dict[str, list[Row]] = {}
        for row in rows:
            if row["campaign"] == name:
                by_source.setdefault(row["source"], []).append(row)
        if len(by_source) > 1:
            figures = {
                source: {
                    "responses": sum(row["responses"] for row in own),
                    **{column: _change(own, column) for column in _SOURCE_FIGURES},
                }
                for source, own in sorted(by_source.items())
            }
            tables.append({"campaign": name, "series": i % charts.SERIES, "sources": figures})
    return tables


_SOURCE_FIGURES = ("accuracy", "code_ratio", "pass_ratio", "reward", "response_tokens")


def _summary(connection: duckdb.DuckDBPyConnection, name: str, series: int, scores: Sequence[Row]) -> Row:
    """The card at the top of the page and the line of lineage at its end."""
    config = _query(connection, "FROM campaigns WHERE campaign = ?", name)
    steps = _query(
        connection,
        """SELECT count(*) AS done, sum(responses)::BIGINT AS responses, median(step_time_s) AS step_time_s,
           sum(step_time_s) AS total_s, arg_max(policy_out, step) AS policy, arg_max(policy_uri, step) AS policy_uri,
           arg_max(code_version, step) AS code_version, arg_max(config_digest, step) AS config_digest,
           max(created_at) AS finished_at FROM steps WHERE campaign = ?""",
        name,
    )[0]
    figures = [
        (
            f"accuracy, {setting.benchmark}{arm.label.removeprefix(name)}",
            _how(setting, scores),
            _change(_of(scores, arm, setting, None), "accuracy"),
        )
        for setting in _settings(scores)
        for arm in _arms(scores, [name], setting)
    ]
    if not figures and steps["done"]:
        trained = _query(connection, "SELECT accuracy FROM progress WHERE campaign = ? ORDER BY step", name)
        figures = [("accuracy", "in training, first and last step", _change(trained, "accuracy"))]
    return {
        "judged_by": _judged_by(connection, name),
        "name": name,
        "series": series % charts.SERIES,
        "figures": figures,
        **steps,
        "config": config[0] if config else None,
    }


def _judged_by(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """A sentence where several versions of the grader judged what the store holds: their figures differ in meaning."""
    rows = _query(connection, "SELECT campaign, grader, min(step) AS step FROM steps GROUP BY ALL ORDER BY step")
    own = [row for row in rows if row["campaign"] == name]
    if not own or len({row["grader"] for row in rows}) == 1:
        return None
    first, *later = own
    graders = [first["grader"], *(f"{row['grader']} (from step {row['step']})" for row in later)]
    listed = " and ".join(filter(None, [", ".join(graders[:-1]), graders[-1]]))
    return f"Rows of this campaign were judged by grader{'s' if later else ''} {listed}."


# --- examples

_EXAMPLES = (
    ("Right, with the tool", "correct AND len(list_filter(tool_calls, lambda c: c.status = 'ok')) > 0"),
    ("A call failed", "len(list_filter(tool_calls, lambda c: c.status <> 'ok')) > 0"),
    ("Wrong", "NOT correct"),
    ("Right, without the tool", "correct AND len(tool_calls) = 0"),
)


def _examples(connection: duckdb.DuckDBPyConnection) -> list[Example]:
    """The latest trajectory of each sort, of about the usual length, none twice."""
    found: list[Example] = []
    for label, condition in _EXAMPLES:
        rows = _query(
            connection,
            f"""FROM trajectories WHERE {condition} AND NOT list_contains(?, trajectory_id)
            ORDER BY max_calls DESC, step DESC, abs(length(response) - 300), trajectory_id LIMIT 1""",
            [example.row["trajectory_id"] for example in found] or [""],
        )
        found += [Example(label, row, verdict(row), spans(row)) for row in rows]
    return found


# --- the page


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "duration": _duration, "harmless": harmless}
    return environment.get_template("report.html.j2")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}".replace("-", "−")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
