"""The temporary Prefect server of a run of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.prefect_server import keep_loopback_direct

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


@pytest.mark.slow
def test_it_answers_behind_a_proxy_and_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_") and k.lower() != "no_proxy"}
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
