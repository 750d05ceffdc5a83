"""What a campaign shows in the Prefect UI: a progress artifact and the table of its steps."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from infra.progress import console
from infra.storage import StepManifest
from torl_core.config import CampaignConfig

_TABLE_EVERY_S = 30.0
"""Each table is a new version of the artifact, kept by the server for ever: few of them."""

_TIMEOUT_S = 5.0
"""How long one request to the server may take, and how long the end of a run waits for the last ones."""

_COLUMNS = ("accuracy", "reward", "called_share", "signal_share", "loss", "grad_norm", "entropy")


class Board:
    """Shown, never in the way: a thread of its own publishes, and a server that does not answer costs no step time."""

    def __init__(self, config: CampaignConfig) -> None:
        self._steps, self._name = config.steps, config.name
        self._key = config.name.replace("_", "-").replace(".", "-")
        self._rows: list[dict[str, Any]] = []
        self._said_at = time.monotonic()
        self._progress: UUID | None = None
        self._is_lost = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="artifacts")
        self._publishing: Future[None] | None = None
        self._publish()

    def add(self, manifest: StepManifest) -> None:
        figures = {name: round(manifest.metrics[name], 4) for name in _COLUMNS if name in manifest.metrics}
        phases = {f"{name}_s": round(value, 2) for name, value in manifest.phases_s.items()}
        self._rows.append({"step": manifest.step, **figures, **phases})
        if time.monotonic() - self._said_at > _TABLE_EVERY_S:
            self._publish()

    def finish(self) -> None:
        """Publish the last table, and wait for it for a few seconds at most."""
        self._wait()
        self._publish()
        self._wait()
        self._thread.shutdown(wait=False)

    def _wait(self) -> None:
        if self._publishing:
            wait([self._publishing], _TIMEOUT_S)

    def _publish(self) -> None:
        """Have the thread publish the rows so far, unless it is still at earlier ones."""
        self._said_at = time.monotonic()
        if self._publishing and not self._publishing.done():
            return
        context = contextvars.copy_context()  # it names the flow run that the artifacts belong to
        self._publishing = self._thread.submit(context.run, self._send, tuple(self._rows))

    def _send(self, rows: Sequence[Mapping[str, Any]]) -> None:
        share = 100.0 * len(rows) / self._steps
        impatient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _TIMEOUT_S}
        try:
            with temporary_settings(impatient), SyncClientContext():
                if self._progress is None:
                    made: Any = create_progress_artifact(share, f"{self._key}-progress", self._name)
                    self._progress = made
                else:
                    update_progress_artifact(self._progress, share)
                if rows:
                    create_table_artifact([dict(row) for row in rows], f"{self._key}-steps", f"Steps of {self._key}")
            self._is_lost = False
        except Exception as error:  # the API is only a display here
            if not self._is_lost:
                self._is_lost = True
                why = f"{type(error).__name__}: {error}"
                console.print(
                    f"Prefect's server does not answer ({why}); the run goes on without it",
                    style="yellow",
                    markup=False,
                )
