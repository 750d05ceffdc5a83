"""Shared by tests that need a model folder or a running Prefect server."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from infra.s3 import ceph
from tests import programs
from torl_core.launch import start

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests share the cores with what they start

# Before any test is collected, since xdist's workers and whatever tests start inherit the PATH.
if os.environ.get(programs.CHOICE) == "none" and "PYTEST_XDIST_WORKER" not in os.environ:
    _links = tempfile.TemporaryDirectory(prefix="torl-path-")
    os.environ["PATH"] = programs.hide(Path(_links.name))

# How long an example may take says more about the machine than about the code.
settings.register_profile("torl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("torl")

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model after a short pretraining: it writes code now and then, and is mostly wrong."""
    from torl_core.toy.base import build_base

    folder = tmp_path_factory.mktemp("model") / "base"
    build_base(folder, seed=0, steps=150)
    return folder


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real `prefect server start` on loopback; yields the environment that points to it."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    with (home / "server.log").open("wb") as log:
        server = start(
            [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/api"
        _wait_until_healthy(url, server)
        yield environment | {"PREFECT_API_URL": url}
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[dict[str, str]]:
    """A real S3 on loopback, with bucket `torl`; yields the AWS_ variables that lead there."""
    programs.need("Ceph")
    with ceph() as environment:
        yield environment


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the Prefect server exited with {server.returncode}"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the Prefect server did not answer within two minutes")
