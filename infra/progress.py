"""Progress of long work, on stderr: bars on a terminal, plain lines elsewhere. Nothing here knows what the work is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from infra.terminal import harmless

console = Console(stderr=True)


def say(text: str, style: str = "") -> None:
    """A line on stderr with `text` as it is, whatever a model, an error or a file's name put into it."""
    console.print(Text(harmless(text), style), soft_wrap=True)


class Bar(Protocol):
    def update(self, done: int, detail: str = "") -> None: ...


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, detail: str = "") -> None:
        self._progress.update(self._task, completed=done, detail=detail)


class _NoBar:
    """What comes and goes on a terminal is not worth a line in a log."""

    def update(self, done: int, detail: str = "") -> None:
        pass


class _LineBar:
    """For logs: at most one line every ten seconds, and one at the end."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._said_at = label, total, time.monotonic()

    def update(self, done: int, detail: str = "") -> None:
        if done >= self._total or time.monotonic() - self._said_at >= 10:
            self._said_at = time.monotonic()
            say(f"{self._label} {done}/{self._total} {detail}".rstrip())


_live: Progress | None = None


@contextmanager
def bar(label: str, total: int, transient: bool = False) -> Iterator[Bar]:
    """A bar over `total` units; bars opened while another is open stand below it. `transient` ones vanish when done."""
    global _live
    if not console.is_terminal:
        yield _NoBar() if transient else _LineBar(label, total)
        return
    outermost = _live is None
    if _live is None:
        _live = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(30),  # where a terminal is narrow, this alone gives way
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[detail]}"),
            console=console,
        )
        _live.start()
    progress = _live
    task = progress.add_task(label, total=total, detail="")
    try:
        yield _RichBar(progress, task)
    finally:
        if transient:
            progress.remove_task(task)
        if outermost:
            progress.stop()
            _live = None
