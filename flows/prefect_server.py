"""Prefect for a command of ours: its settings, the server that they name, or a temporary one for this run alone."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO, Any

from infra.prefect_api import PrefectUnavailable, check_home, check_server, configured_url, prepare_environment
from torl_core.launch import start

_START_LIMIT_S = 120.0


def start_prefect(home: Path | None = None) -> None:
    """Set Prefect's environment, and start a temporary server where no server is configured.

    `home` is the folder of the temporary server's database; None takes Prefect's own. Raises ConfigError and
    PrefectUnavailable within seconds, apart from a server that is slow to start.
    """
    prepare_environment()
    if home and not os.environ.get("PREFECT_API_URL"):
        _move_home(home.resolve())
    url = configured_url()
    if url is None:
        check_home()
        _start_server()
    else:
        check_server(url)


def _move_home(home: Path) -> None:
    """Prefect's home, apart from the user's profiles: one of them may name a server."""
    profiles = Path(os.path.expanduser(os.environ.get("PREFECT_HOME", "~/.prefect"))) / "profiles.toml"
    if profiles.exists():
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    os.environ.setdefault("PREFECT_HOME", str(home))
    # Prefect otherwise writes it into ~/.prefect, and warns where that folder does not exist yet.
    os.environ.setdefault("PREFECT_MEMO_STORE_PATH", str(home / "memo_store.toml"))


def _start_server() -> None:
    """Start the server that Prefect itself would start. It ends with this process, and Ctrl-C does not reach it, since
    it has yet to hear how the run ended."""
    import prefect
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    class Server(SubprocessASGIServer):
        """Prefect's own, apart from how its process is started. Prefect finds it as the running one."""

        def start(self, timeout: int | None = None) -> None:
            if self.running:
                return
            for _ in range(3):  # another process may take the port before the server does
                self.port = self.find_available_port()
                with tempfile.TemporaryFile() as said:
                    self.server_process = self._run(said)
                    failure = _failure(self.server_process, f"{self.api_url}/health", said, timeout or _START_LIMIT_S)
                if failure is None or self.is_port_available(self.port):
                    break
            if failure is not None:
                self.stop()
                raise PrefectUnavailable(
                    f"Prefect's temporary server did not start ({failure})",
                    f"it keeps its database in {get_current_settings().home}",
                    "move that folder away if its database is damaged or of another version, set PREFECT_HOME to "
                    "another, or set PREFECT_API_URL to a running server",
                )
            self.running = True
            atexit.register(self.stop)

        def _run(self, said: IO[bytes]) -> subprocess.Popen[Any]:
            command = [
                *(sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent)),
                *("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--log-level", "error", "--lifespan", "on"),
            ]
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            ephemeral = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
            return start(command, env={**os.environ, **ephemeral, **settings}, stderr=said)

    Server().start()


def _failure(server: subprocess.Popen[Any], health_url: str, said: IO[bytes], limit_s: float) -> str | None:
    """Wait for the server to answer: why it does not, or None. A server that has ended is not waited for."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return _last_error(said) or f"exit code {server.returncode}"
        try:
            with urllib.request.urlopen(health_url, timeout=5):
                return None
        except OSError:
            time.sleep(0.1)
    return f"no answer within {limit_s:g} s"


def _last_error(said: IO[bytes]) -> str | None:
    """The last line of a traceback, such as `sqlite3.DatabaseError: file is not a database`."""
    said.seek(0)
    errors = re.findall(r"^[\w.]+(?:Error|Exception): .+$", said.read().decode(errors="replace"), re.MULTILINE)
    return str(errors[-1]) if errors else None
