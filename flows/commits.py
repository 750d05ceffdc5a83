"""A step's upload and commit go on while the next step samples. At most one is under way, and none is left behind."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from prefect.futures import PrefectFuture

from infra.progress import say
from infra.storage import StepManifest


class Commits:
    """`committed` is called with each manifest, in order, in the thread that settles."""

    def __init__(self, committed: Callable[[StepManifest], None]) -> None:
        self._committed = committed
        self._running: PrefectFuture[StepManifest] | None = None

    def start(self, commit: PrefectFuture[StepManifest]) -> None:
        self._running = commit

    def settle(self) -> None:
        """Wait for the commit under way. Raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            self._committed(running.result())

    def __enter__(self) -> Commits:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """However the campaign ends, a trained step is committed while its lease is still held."""
        try:
            self.settle()
        except Exception as failure:
            if error is None:
                raise
            say(f"the last step could not be committed: {failure}", "yellow")
