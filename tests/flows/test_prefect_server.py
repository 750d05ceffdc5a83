"""The Prefect server of a run: the configured one, or a temporary one of its own."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from infra.prefect_api import keep_loopback_direct

ROOT = Path(__file__).resolve().parents[2]

STARTS_ONE = """
import sys
from pathlib import Path
from flows.prefect_server import start_prefect
start_prefect(Path(sys.argv[1]))
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.api_healthcheck(), flush=True)
sys.stdin.read()
"""


ASKS_FOR_ONE = """
import json, time
from flows.prefect_server import start_prefect
from infra.doctor import _prefect
from torl_core.errors import TorlError
check, began = _prefect(), time.monotonic()
try:
    start_prefect()
    said = ""
except TorlError as error:
    said = str(error)
print(json.dumps({"said": said, "took_s": time.monotonic() - began, "ok": check.ok, "doctor": check.detail}))
"""


def plain_environment() -> dict[str, str]:
    """Without what this process was given for Prefect."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_") and k.lower() != "no_proxy"}


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Something that gives every request the same answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silence() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


def ask(environment: dict[str, str], folder: Path) -> dict[str, object]:
    environment = plain_environment() | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, "-c", ASKS_FOR_ONE], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "http://127.0.0.1:9/api cannot be used"),
        ({"PREFECT_API_URL": "127.0.0.1:4200"}, "127.0.0.1:4200 cannot be used"),
        ({"PREFECT_HOME": "/proc/none"}, "/proc/none cannot be written"),
        ({"HOME": "/proc/none"}, "/proc/none/.prefect cannot be written"),
        ({"PREFECT_CLIENT_MAX_RETRIES": "many"}, "Prefect cannot read its settings"),
    ],
)
def test_what_cannot_work_is_one_error_within_seconds_and_doctor_says_the_same(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    answer = ask(environment, tmp_path)
    assert said in str(answer["said"])
    assert said in str(answer["doctor"])
    assert answer["ok"] is False
    assert float(str(answer["took_s"])) < 10


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (answering(404, ""), "cannot be used"),
        (answering(500, ""), "cannot be used"),
        (answering(200, "<html>"), "cannot be used"),
        (silence(), "cannot be used"),
        (answering(200, '"2.20.4"'), "has version 2.20.4, and this one has 3."),
        (answering(200, '"4.0.0"'), "has version 4.0.0, and this one has 3."),
    ],
    ids=["no API", "errors", "a web site", "silence", "Prefect 2", "Prefect 4"],
)
def test_what_is_no_prefect_server_of_this_version_is_refused(
    server: AbstractContextManager[str], said: str, tmp_path: Path
) -> None:
    with server as url:
        answer = ask({"PREFECT_API_URL": url}, tmp_path)
    assert f"{url} {said}" in str(answer["said"])
    assert (answer["ok"], f"{url} {said}" in str(answer["doctor"])) == (False, True)
    assert float(str(answer["took_s"])) < 10


def test_the_server_of_the_active_profile_is_the_one_that_is_used(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    profile = '[profiles.ours]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    (tmp_path / ".prefect" / "profiles.toml").write_text(f'active = "ours"\n{profile}')
    answer = ask({"HOME": str(tmp_path)}, tmp_path)
    assert "http://127.0.0.1:9/api cannot be used" in str(answer["said"])
    assert "http://127.0.0.1:9/api cannot be used" in str(answer["doctor"])
    demo = subprocess.run(
        [Path(sys.executable).with_name("torl"), "demo", "--out", str(tmp_path / "demo")],
        env=plain_environment() | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert demo.returncode == 1
    assert "http://127.0.0.1:9/api cannot be used" in " ".join(demo.stderr.split())
    assert "Traceback" not in demo.stderr


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"rotten" * 1000)
    began = time.monotonic()
    answer = ask({"PREFECT_HOME": str(tmp_path)}, tmp_path)
    assert "did not start" in str(answer["said"])
    assert "file is not a database" in str(answer["said"])
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_servers_of_runs_that_begin_together_share_a_database(tmp_path: Path) -> None:
    """A new one, which each would make; four of them, because two of them meet seldom."""
    code = STARTS_ONE.replace("start_prefect(Path(sys.argv[1]))", "start_prefect()")
    environment = plain_environment() | {"PREFECT_HOME": str(tmp_path)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = [run.stdout.readline() for run in runs if run.stdout]
    said = [run.communicate()[1] for run in runs]
    assert (answers, said) == (["None\n"] * 4, [""] * 4)


TAKES_A_TAKEN_PORT = """
import sys
from prefect.server.api.server import SubprocessASGIServer
from flows.prefect_server import start_prefect
free, ports = SubprocessASGIServer.find_available_port, [int(sys.argv[1])]
SubprocessASGIServer.find_available_port = lambda self: ports.pop() if ports else free(self)
start_prefect()
print(SubprocessASGIServer._instances[None].port != int(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_port_that_was_taken_meanwhile_is_left_for_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-c", TAKES_A_TAKEN_PORT, str(taken.getsockname()[1])], cwd=ROOT,
            env=plain_environment() | {"PREFECT_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


@pytest.mark.slow
def test_it_answers_behind_a_proxy_and_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = plain_environment()
    dead = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE, str(tmp_path / "prefect")],
        cwd=ROOT, env=environment | dead | {"HOME": str(home)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    answer = parent.stdout.readline()
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGKILL)
    alive = psutil.wait_procs(children, timeout=10)[1]
    for orphan in alive:
        orphan.kill()
    said = parent.communicate()[1]
    assert (answer, said) == ("None\n", ""), "it answers, and nothing is said on stderr"
    assert len(children) == 1
    assert alive == []
    assert list(home.iterdir()) == [], "nothing is written into the user's home"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "unused", "no_proxy": "corp.example"}, "corp.example,127.0.0.1,localhost,::1"),
    ],
)
def test_loopback_is_added_to_what_the_user_set(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, given.get(name, ""))
    keep_loopback_direct()
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (expected, expected)
