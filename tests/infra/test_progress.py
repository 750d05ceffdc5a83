"""Bars on a terminal."""

import io

import pytest
from rich.console import Console

from infra import progress


def test_a_bar_keeps_its_count_and_its_clock_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(width=80, force_terminal=True, color_system=None, file=shown))
    with progress.bar("no-tool", 500) as bar:
        bar.update(450, "accuracy 0.93  reward -0.86  with calls 1.00")
    line = next(line for line in reversed(shown.getvalue().splitlines()) if "no-tool" in line)
    assert line.endswith("450/500 0:00:00 accuracy 0.93  reward -0.86  with calls 1.00")


def test_what_an_error_quotes_is_shown_as_it_is(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(width=20, force_terminal=True, color_system=None, file=shown))
    progress.say("tried again: [/x] :smile: \x1b[31m and a long line", "yellow")
    assert shown.getvalue() == "tried again: [/x] :smile: \\x1b[31m and a long line\n"
