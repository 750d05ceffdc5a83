"""The demo: a base model from nothing, one campaign with the tool and one without, a table and a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich import box
from rich.table import Table

from flows.campaign import campaign
from flows.prefect_server import run_flow
from flows.tables import out
from infra.analytics import query, report
from infra.progress import bar, say
from infra.resources import session
from infra.settings import load_campaign
from infra.storage import Store
from torl_core.config import CampaignConfig
from torl_core.toy.base import STEPS, build_base

_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a policy's evaluation, over all problems (`kind` "all") or over one kind."""

    campaign: str
    max_calls: int
    samples: int
    problems_digest: str | None
    decoding: str
    kind: str
    step: int
    problems: int
    accuracy: float
    code_ratio: float
    pass_ratio: float | None
    reward: float
    grader: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    seed: int
    lines: Sequence[Line]
    report: str
    store: str

    def print(self, as_json: bool) -> None:
        """The table on stdout, as JSON with everything in it or for people; where things lie on stderr."""
        if as_json:
            print(json.dumps(asdict(self)))
            return
        out().print(_table(self.lines))
        say(f"report: {self.report}\nstore:  {self.store}")
        say(f'next:   torl sql {self.store} "FROM figure5"')


def run_demo(out: Path, seed: int) -> DemoResult:
    """Everything lies under `out`, per seed; what is there already is not made again."""
    home = out / f"seed-{seed}"
    store = Store.open(home / "store")
    store.check_writable()
    _base(home / "base", seed)
    with session():
        for config in demo_campaigns(home, seed):
            run_flow(campaign, config)
    page = home / "report.html"
    report(store, page)
    return DemoResult(seed, table_lines(store), str(page), store.uri)


def demo_campaigns(home: Path, seed: int) -> tuple[CampaignConfig, CampaignConfig]:
    """With the tool and, otherwise the same, without it."""
    common = [f"seed={seed}", f"store={home / 'store'}", f"model.path={home / 'base'}"]
    return (
        load_campaign(_CONFIG, common),
        load_campaign(_CONFIG, [*common, "name=no-tool", "tool.max_calls=0"]),
    )


def _base(folder: Path, seed: int) -> None:
    if folder.exists():
        return
    with bar("base model", STEPS) as progress:
        build_base(folder, seed, lambda done, _total, loss: progress.update(done, f"loss {loss:.3f}"))


_QUERY = """
SELECT campaign, max_calls, samples, problems_digest, benchmark AS decoding, coalesce(kind, 'all') AS kind, step,
       responses AS problems, accuracy, code_ratio, pass_ratio, reward, grader
FROM scores
QUALIFY row_number() OVER (
  PARTITION BY campaign, benchmark, temperature, samples, problems_digest, grader, max_calls, step, scores.kind
  ORDER BY evaluated_at DESC, evaluation
) = 1
ORDER BY benchmark, campaign DESC, max_calls DESC, samples, problems_digest, grader, scores.kind NULLS FIRST, step
"""


def table_lines(store: Store) -> list[Line]:
    """Every evaluation in the store, whole and by kind of problem."""
    rows = query(store, _QUERY).to_pylist()
    return [Line(**{f.name: row[f.name] for f in fields(Line)}) for row in rows]


def _table(lines: Sequence[Line]) -> Table:
    """One row per campaign, decoding and kind; each figure before and after training."""
    # Whole at 80 columns: the setting stands in the column of the kinds.
    table = Table(title="Before → after training", header_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("problems", "accuracy", "code ratio", "pass ratio", "reward"):
        table.add_column(name, justify="left" if name == "problems" else "right", no_wrap=True)
    first = min(line.step for line in lines)
    before = {_setting(line): line for line in lines if line.step == first}
    several = len({line.grader for line in lines}) > 1
    for line in lines:
        if line.step == first:
            continue
        old = before.get(_setting(line))
        whole, decoding = line.kind == "all", "greedy" if line.decoding == "greedy" else "T = 1"
        how = f"{decoding}, grader {line.grader}" if several else decoding
        table.add_row(
            f"C = {line.max_calls}, {how} ({line.problems})" if whole else f"  {line.kind}",
            *(
                _change(getattr(old, name, None), getattr(line, name))
                for name in ("accuracy", "code_ratio", "pass_ratio", "reward")
            ),
            style="bold" if whole else "dim",
        )
    return table


def _setting(line: Line) -> tuple[object, ...]:
    """What two lines have in common when one is before training and the other after it."""
    return line.campaign, line.decoding, line.kind, line.max_calls, line.samples, line.problems_digest, line.grader


def _change(old: float | None, new: float | None) -> str:
    return " → ".join("–" if value is None else f"{value:.2f}" for value in (old, new))
