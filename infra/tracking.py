"""Weights & Biases beside a campaign, when configured. It is a display: when it fails, training goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from infra.progress import console
from torl_core.config import CampaignConfig

_LIMIT_S = 10
"""How long a service that does not answer may hold up the start of a run, and its end."""
_OFFLINE_LIMIT_S = 120
"""How long the end may take where no service is asked: the rest of the run's file is written meanwhile."""


class Tracker(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a step's metrics. Never raises."""
        ...


class _Off:
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run: Any | None = run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        run = self._run
        if run and not _shielded(lambda: run.log(dict(metrics), step=step)):
            self._run = None  # one warning is enough

    def finish(self) -> None:
        run = self._run
        if run:
            _shielded(run.finish)


@contextmanager
def open_tracker(config: CampaignConfig, folder: Path = Path("runs")) -> Iterator[Tracker]:
    """A tracker for one run of a campaign; off unless `tracking.wandb_project` is set.

    Without an API key the run is kept below `folder`, for `wandb sync` to send later. WANDB_MODE and WANDB_DIR decide
    where they are set. A resumed campaign goes on in the same online run: its id comes from the campaign's name and
    identity.
    """
    tracker = _open_wandb(config, folder) if config.tracking.wandb_project else None
    try:
        yield tracker or _Off()
    finally:
        if tracker:
            tracker.finish()


def _open_wandb(config: CampaignConfig, folder: Path) -> _Wandb | None:
    opened: list[Any] = []

    def start() -> None:
        import wandb

        if not os.environ.get("WANDB_DIR"):
            folder.mkdir(parents=True, exist_ok=True)
        asked = os.environ.get("WANDB_MODE")
        keyless = not asked and not _has_key()
        end_s = _OFFLINE_LIMIT_S if keyless or asked == "offline" else _LIMIT_S
        opened.append(
            wandb.init(
                project=config.tracking.wandb_project,
                name=config.name,
                id=f"{config.name}-{config.identity()}",
                resume="allow",
                config=config.model_dump(mode="json"),
                dir=None if os.environ.get("WANDB_DIR") else str(folder),
                mode="offline" if keyless else None,
                settings=wandb.Settings(
                    console="off", silent=True, init_timeout=_LIMIT_S, login_timeout=_LIMIT_S, finish_timeout=end_s
                ),
            )
        )

    return _Wandb(opened[0]) if _shielded(start) else None


def _has_key() -> bool:
    """A key in the environment, or one that `wandb login` has kept."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(errors="replace")


def _shielded(action: Callable[[], Any]) -> bool:
    """Do it; a failure is one line on stderr, and False."""
    try:
        action()
    except Exception as error:  # the library, the network and the service raise many kinds
        console.print(f"wandb is off for this run ({type(error).__name__}: {error}); training goes on", highlight=False)
        return False
    return True
