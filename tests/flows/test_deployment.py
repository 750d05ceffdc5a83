"""The deployments of prefect.yaml on a real server and a real process worker, started and cancelled as from the UI."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

Environment = dict[str, str]


def prefect(environment: Environment, *arguments: str) -> str:
    result = subprocess.run(
        [BIN / "prefect", "--no-prompt", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def wait_for(what: str, ready: Callable[[], Any], limit_s: float = 300) -> Any:
    deadline = time.monotonic() + limit_s
    while not (value := ready()):
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
        time.sleep(0.2)
    return value


@pytest.fixture
def worker(prefect_server: Environment) -> Iterator[psutil.Process]:
    # Not /tmp itself: Prefect's /tmp/runner_storage belongs to the first user of a machine. And a short path: vLLM's
    # sockets lie in it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        yield from _worker(prefect_server | {"TMPDIR": scratch})


def _worker(environment: Environment) -> Iterator[psutil.Process]:
    prefect(environment, "work-pool", "create", "torl", "--type", "process", "--overwrite")
    prefect(environment, "deploy", "--all")
    process = subprocess.Popen(
        [BIN / "prefect", "worker", "start", "--pool", "torl"],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def api(environment: Environment, method: str, path: str, body: Any = None) -> Any:
    response = httpx.request(method, environment["PREFECT_API_URL"] + path, json=body, timeout=30)
    assert response.is_success, response.text
    return response.json()


def test_the_parameters_are_a_form_without_a_schedule(worker: psutil.Process, prefect_server: Environment) -> None:
    assert worker.status() != psutil.STATUS_ZOMBIE
    deployments = {d["name"]: d for d in api(prefect_server, "POST", "/deployments/filter", {})}
    assert set(deployments) >= {"campaign", "evaluate"}
    campaign = deployments["campaign"]
    assert campaign["schedules"] == []
    schema = campaign["parameter_openapi_schema"]["definitions"]["CampaignConfig"]["properties"]
    assert "base model" in json.dumps(campaign["parameter_openapi_schema"])
    assert {"steps", "rollout", "tool", "trainer", "evaluation"} <= set(schema)


def test_cancelling_from_the_ui_stops_every_process(
    worker: psutil.Process, prefect_server: Environment, base_model: Path, tmp_path: Path
) -> None:
    config = {
        "name": "cancelled",
        "store": str(tmp_path / "store"),
        "steps": 1000,
        "model": {"path": str(base_model), "dtype": "float32"},
        "problems": {"location": "toy:train", "limit": 64},
        "rollout": {"template": "short", "problems_per_step": 8, "samples_per_problem": 4, "max_new_tokens": 48},
        "engine": {"max_num_seqs": 64, "max_model_len": 256},
        "trainer": {"learning_rate": "1e-4", "row_tokens": 160, "rows_per_micro_batch": 8, "threads": 1},
    }
    deployments = {d["name"]: d["id"] for d in api(prefect_server, "POST", "/deployments/filter", {})}
    start = f"/deployments/{deployments['campaign']}/create_flow_run"
    run = api(prefect_server, "POST", start, {"parameters": {"config": config}})

    def state() -> str:
        return str(api(prefect_server, "GET", f"/flow_runs/{run['id']}")["state"]["type"])

    def first_step_is_done() -> bool:
        assert worker.status() != psutil.STATUS_ZOMBIE, "the worker has ended"
        assert state() not in ("FAILED", "CRASHED", "COMPLETED")
        return (tmp_path / "store/campaigns/cancelled/steps/000001/manifest.json").exists()

    wait_for("the first step", first_step_is_done)
    started = worker.children(recursive=True)
    told = " ".join(" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]) if p in started)
    assert "torl_core.trainer.rank" in told, told
    assert "zygote" in told, told
    assert len(started) >= 5, "flow run, engine, learner, graders and sandbox workers"

    names = {a["key"] for a in api(prefect_server, "POST", "/artifacts/filter", {}) if a["key"]}
    assert any(name.startswith("cancelled") for name in names)

    api(prefect_server, "POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    wait_for("the run to be cancelled", lambda: state() == "CANCELLED", 90)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
