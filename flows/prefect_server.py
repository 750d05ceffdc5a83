"""Prefect's settings for a command of ours, and a temporary server for a run of its own.

Prefect is imported inside the functions, because it reads its settings from the environment when it is imported.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from torl_core.launch import start

_LOOPBACK = "127.0.0.1,localhost,::1"


def start_prefect(home: Path | None = None) -> None:
    """Set Prefect's environment, and start a temporary server where no server is configured.

    Prefect sends no telemetry and writes no log lines, since bars and errors say the same on stderr. `home` is the
    folder of the temporary server's database; None takes Prefect's own.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    if home and not os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault("PREFECT_HOME", str(home.resolve()))
        # Prefect otherwise writes it into ~/.prefect, and warns where that folder does not exist yet.
        os.environ.setdefault("PREFECT_MEMO_STORE_PATH", str(home.resolve() / "memo_store.toml"))
        with contextlib.suppress(OSError):  # the store's check reports a folder that cannot be made
            home.mkdir(parents=True, exist_ok=True)
    keep_loopback_direct()
    _start_server()


def keep_loopback_direct() -> None:
    """Have this process and its children reach this machine without a proxy, whatever HTTP_PROXY says.

    Both spellings are set: urllib prefers `no_proxy`, and other libraries read only one of the two.
    """
    without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [without, _LOOPBACK]))


def _start_server() -> None:
    """Start the server that Prefect itself would start. It ends with this process, and Ctrl-C does not reach it, since
    it has yet to hear how the run ended."""
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value() is not None:
        return
    import prefect
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    class Server(SubprocessASGIServer):
        """Prefect's own, apart from how its process is started. Prefect finds it as the running one."""

        def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
            command = [
                *(sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent)),
                *("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--log-level", "error", "--lifespan", "on"),
            ]
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            ephemeral = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
            return start(command, env={**os.environ, **ephemeral, **settings})

    Server().start()
