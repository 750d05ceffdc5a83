"""The stores that the suite runs on: a folder, memory, and two S3 servers, moto's and Ceph's, on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from infra.s3 import BUCKET, make_bucket
from infra.storage import Store

BIN = Path(sys.executable).parent
S3Server = dict[str, str]


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        server = subprocess.Popen([BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, server)
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "torl",
            "AWS_SECRET_ACCESS_KEY": "torl-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        make_bucket(environment)
        yield environment
    finally:
        server.kill()
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, f"moto exited with {server.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("moto did not answer within two minutes")


@pytest.fixture(params=["folder", "file-url", "memory", "moto", "ceph"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty store's address; for S3 the environment leads to the server that has it."""
    name, folder = uuid.uuid4().hex, tmp_path / "s"
    match request.param:
        case "folder":
            yield str(folder)
        case "file-url":
            yield f"file://{folder}"
        case "memory":
            yield f"memory://{name}"
        case kind:
            for variable in [name for name in os.environ if name.startswith("AWS_")]:
                monkeypatch.delenv(variable)
            for variable, value in request.getfixturevalue(f"{kind}_server").items():
                monkeypatch.setenv(variable, value)
            # fsspec keeps file systems by their arguments, and the server is not among them.
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            yield f"{BUCKET}/{name}"
            fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def store(store_uri: str, tmp_path: Path) -> Store:
    return Store.open(store_uri, cache=tmp_path / "cache")
