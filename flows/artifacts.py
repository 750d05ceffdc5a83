"""What a campaign shows in the Prefect UI: a progress artifact and the table of its steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from infra.storage import StepManifest
from torl_core.config import CampaignConfig

log = logging.getLogger(__name__)

_TABLE_EVERY_S = 30.0
"""Each table is a new version of the artifact, kept by the server for ever: few of them."""

_COLUMNS = ("accuracy", "reward", "called_share", "signal_share", "loss", "grad_norm", "entropy")


class Board:
    """Shown, never in the way: an artifact that cannot be written is a warning."""

    def __init__(self, config: CampaignConfig) -> None:
        self._steps, self._key = config.steps, config.name.replace("_", "-").replace(".", "-")
        self._rows: list[dict[str, Any]] = []
        self._said_at = time.monotonic()
        self._progress = _try(lambda: create_progress_artifact(0.0, f"{self._key}-progress", config.name))

    def add(self, manifest: StepManifest) -> None:
        figures = {name: round(manifest.metrics[name], 4) for name in _COLUMNS if name in manifest.metrics}
        phases = {f"{name}_s": round(value, 2) for name, value in manifest.phases_s.items()}
        self._rows.append({"step": manifest.step, **figures, **phases})
        if time.monotonic() - self._said_at > _TABLE_EVERY_S:
            self._publish()

    def finish(self) -> None:
        self._publish()

    def _publish(self) -> None:
        self._said_at = time.monotonic()
        share = 100.0 * len(self._rows) / self._steps
        if self._progress is not None:
            progress = self._progress
            _try(lambda: update_progress_artifact(progress, share))
        _try(lambda: create_table_artifact(self._rows, f"{self._key}-steps", f"Steps of {self._key}"))


def _try(publish: Callable[[], Any]) -> Any:
    try:
        return publish()
    except Exception as error:  # the API is only a display here
        log.warning("could not publish an artifact: %s", error)
        return None
