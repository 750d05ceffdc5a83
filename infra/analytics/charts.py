"""Line and area charts as inline SVG. Colours are CSS variables of the page, so charts follow light, dark and print.

matplotlib is imported where a chart is drawn: it takes longer than everything else that a query imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = 8
"""Colours there are; further series begin again."""

_INK, _MUTED, _GRID = "#0a0b01", "#0a0b02", "#0a0b03"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--line)"} | {
    f"#0a0c{i:02x}": f"var(--series-{i})" for i in range(SERIES)
}
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


@dataclass(frozen=True, slots=True)
class Line:
    """y over steps; None leaves a gap. `series` chooses colour and dashes."""

    label: str
    steps: Sequence[int]
    values: Sequence[float | None]
    series: int


def lines(title: str, series: Sequence[Line], *, percent: bool = False, smooth: int = 1, markers: bool = False) -> str:
    """SVG of one or more lines. `smooth`: the bold line is a centred mean over so many steps, the faint one is raw."""
    with _drawn(title) as (figure, axes):
        for line in series:
            colour, dashes = f"#0a0c{line.series % SERIES:02x}", _DASHES[line.series % len(_DASHES)]
            raw = np.array([np.nan if value is None else value for value in line.values], dtype=float)
            if smooth > 1:
                axes.plot(line.steps, raw, color=colour, linewidth=0.8, alpha=0.3)
            dot = "o" if markers or np.isfinite(raw).sum() == 1 else None
            shown = moving_mean(raw, smooth)
            axes.plot(line.steps, shown, color=colour, linestyle=dashes, linewidth=1.9, marker=dot, markersize=4)
        if percent:
            largest = max((value for line in series for value in line.values if value is not None), default=1.0)
            axes.set_ylim(*((-0.02, 1.02) if largest > 0.4 else (-0.002, max(0.1, 1.2 * largest))))
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        return _svg(figure, title)


def stacked(title: str, steps: Sequence[int], parts: Mapping[str, Sequence[float]], top: float) -> str:
    """SVG of bars stacked in the order of `parts`, colours in that order; `top` is the axis' end, in seconds."""
    with _drawn(title) as (figure, axes):
        bottom, edges = np.zeros(len(steps)), np.append(np.asarray(steps) - 0.5, steps[-1] + 0.5)
        for i, values in enumerate(parts.values()):
            above = bottom + np.asarray(values)
            axes.stairs(above, edges, baseline=bottom, fill=True, color=f"#0a0c{i % SERIES:02x}", linewidth=0)
            bottom = above
        axes.set_ylim(0, top * 1.05)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s")
        return _svg(figure, title)


def moving_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Centred mean over up to `width` neighbours; what is missing is left out, and stays missing itself."""
    half = width // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    means = [np.nan if np.isnan(v) else np.nanmean(w) for v, w in zip(values, windows, strict=True)]
    return np.array(means, dtype=float)


@contextmanager
def _drawn(title: str) -> Iterator[tuple[Figure, Axes]]:
    """An empty chart, in this page's style while the block runs."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(4.6, 2.5))
        axes = figure.add_axes((0.115, 0.175, 0.865, 0.785))  # a fixed frame: charts line up without a layout pass
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.02)
        axes.set_xlabel("step")
        yield figure, axes


def _svg(figure: Figure, title: str) -> str:
    """The <svg> element alone, scalable, named for screen readers, with its colours taken from the page."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' id="(?:figure|axes|matplotlib|xtick|ytick|line2d|text|patch|QuadMesh)[^"]*"', "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(title)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
