"""Prefect for a command of ours: its settings, the server that they name, or a temporary one for this run alone."""

from __future__ import annotations

import atexit
import fcntl
import functools
import inspect
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, NoReturn

from infra.prefect_api import PrefectUnavailable, check_home, check_server, configured_url, prepare_environment
from infra.progress import console
from torl_core.launch import start

_START_LIMIT_S = 120.0


def start_prefect(home: Path | None = None) -> None:
    """Set Prefect's environment, and start a temporary server where no server is configured.

    `home` is the folder of the temporary server's database; None takes Prefect's own. Raises ConfigError and
    PrefectUnavailable within seconds, apart from a server that is slow to start.
    """
    prepare_environment()
    # A server that is lost in mid-run must not hold up the work: one more attempt, and few events wait for it. One that
    # takes requests and never answers costs four of these times at the end of a run, since Prefect then reports twice.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("PREFECT_EVENTS_WORKER_MAX_QUEUE_SIZE", "1000")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
    if home and not os.environ.get("PREFECT_API_URL"):
        _move_home(home.resolve())
    url = configured_url()
    if url is None:
        check_home()
        url = _start_server()
    else:
        check_server(url)
    _give_up_events_early(url)


def run_flow(flow: Any, *arguments: Any) -> Any:
    """Run a flow and return its result, also where the server is lost before it hears how the run ended.

    Raises what the flow itself raises, and PrefectUnavailable where the server is lost before the flow begins.
    """
    import httpx

    ended: Future[Any] = Future()

    @functools.wraps(flow.fn)
    def body(*args: Any, **kwargs: Any) -> Any:
        try:
            ended.set_result(flow.fn(*args, **kwargs))
        except BaseException as error:
            ended.set_exception(error)
        return ended.result()

    body.__signature__ = inspect.signature(flow.fn, eval_str=True)  # type: ignore[attr-defined]
    watched = flow.with_options()
    watched.fn = body
    try:
        return watched(*arguments)
    except httpx.HTTPError as error:
        if not ended.done():
            raise PrefectUnavailable(
                f"Prefect's server was lost before the run began ({type(error).__name__}: {error})",
                "every flow run is registered with a server first",
                "start the server again and resume with the same command",
            ) from None
        if ended.exception() is error:
            raise
        console.print(
            f"Prefect's server did not hear how the run ended ({type(error).__name__}: {error})",
            style="yellow",
            markup=False,
        )
        return ended.result()


def leave(code: int, limit_s: float = 5.0) -> NoReturn:
    """End the process once Prefect has its last events, or without them when a server does not take them in time."""
    worker = sys.modules.get("prefect.events.worker")
    waiting = worker.EventsWorker.drain_all(timeout=limit_s)[1] if worker else ()
    if waiting:  # Prefect waits for them without a limit when an interpreter ends
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _give_up_events_early(url: str) -> None:
    """Have Prefect's sender of events try a lost server twice for each event, and not for seven seconds."""
    from prefect.events.clients import PrefectEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_CLOUD_API_URL

    logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)
    if not url.startswith(PREFECT_CLOUD_API_URL.value()):  # the Cloud has a sender of its own
        EventsWorker.set_client_override(PrefectEventsClient, api_url=url, reconnection_attempts=1)


def _move_home(home: Path) -> None:
    """Prefect's home, apart from the user's profiles: one of them may name a server."""
    profiles = Path(os.path.expanduser(os.environ.get("PREFECT_HOME", "~/.prefect"))) / "profiles.toml"
    if profiles.exists():
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    os.environ.setdefault("PREFECT_HOME", str(home))
    # Prefect otherwise writes it into ~/.prefect, and warns where that folder does not exist yet.
    os.environ.setdefault("PREFECT_MEMO_STORE_PATH", str(home / "memo_store.toml"))


def _start_server() -> str:
    """Start the server that Prefect itself would start. It ends with this process, and Ctrl-C does not reach it, since
    it has yet to hear how the run ended. Returns its address."""
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

    server = Server()
    with (get_current_settings().home / "torl.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # two servers that make the tables of one database at a time break it
        server.start()
    return server.api_url


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
