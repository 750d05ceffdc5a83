"""The deployments of prefect.yaml on a real server and a real process worker, started and cancelled as from the UI."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest

from tests.flows.relay import Fault, Relay, relay

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
def worker(prefect_server: Environment, tmp_path: Path) -> Iterator[psutil.Process]:
    with (tmp_path / "worker.log").open("wb") as log, running_worker(prefect_server, log) as process:
        yield process


@contextmanager
def running_worker(environment: Environment, log: IO[bytes]) -> Iterator[psutil.Process]:
    prefect(environment, "work-pool", "create", "torl", "--type", "process", "--overwrite")
    prefect(environment, "deploy", "--all")
    # Not /tmp itself: Prefect's /tmp/runner_storage belongs to the first user of a machine. And a short path: vLLM's
    # sockets lie in it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        process = subprocess.Popen(
            [BIN / "prefect", "worker", "start", "--pool", "torl"],
            cwd=ROOT, env=environment | {"TMPDIR": scratch}, stdout=log, stderr=log, start_new_session=True,
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


def start_campaign(environment: Environment, config: dict[str, Any]) -> str:
    """The flow run's id."""
    deployments = {d["name"]: d["id"] for d in api(environment, "POST", "/deployments/filter", {})}
    start = f"/deployments/{deployments['campaign']}/create_flow_run"
    return str(api(environment, "POST", start, {"parameters": {"config": config}})["id"])


def state_of(environment: Environment, run: str) -> str:
    return str(api(environment, "GET", f"/flow_runs/{run}")["state"]["type"])


def lease_of(environment: Environment, run: str) -> str | None:
    """The run's place under a concurrency limit of its deployment."""
    lease = api(environment, "GET", f"/flow_runs/{run}")["state"]["state_details"]["deployment_concurrency_lease_id"]
    return lease if lease is None else str(lease)


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
    run = start_campaign(prefect_server, config)

    def state() -> str:
        return state_of(prefect_server, run)

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

    api(prefect_server, "POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    wait_for("the run to be cancelled", lambda: state() == "CANCELLED", 90)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
    said = (tmp_path / "worker.log").read_text()
    assert "did not hear" not in said
    assert "exited with status code" not in said, "the exit code is 0, of which a worker says nothing"


@pytest.fixture
def small(base_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Twelve steps of a quarter of a second."""
    return {
        "name": "small",
        "store": str(tmp_path / "store"),
        "steps": 12,
        "model": {"path": str(base_model), "dtype": "float32"},
        "problems": {"location": "toy:train", "limit": 24},
        "rollout": {"template": "short", "problems_per_step": 4, "samples_per_problem": 4, "max_new_tokens": 48},
        "engine": {"backend": "transformers", "max_num_seqs": 16},
        "sandbox": {"workers": 1},
        "trainer": {"backend": "reference", "threads": 1, "row_tokens": 160, "rows_per_micro_batch": 8},
    }


@dataclass(frozen=True)
class Lost:
    """A run in its third step, whose server can be lost."""

    run: str
    server: Relay
    process: psutil.Process
    steps: Path
    log: Path

    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def ends(self, limit_s: float) -> None:
        children = self.process.children(recursive=True)
        assert psutil.wait_procs([self.process], timeout=limit_s)[1] == []
        assert psutil.wait_procs(children, timeout=10)[1] == []
        assert (self.steps / "000012/manifest.json").exists()
        assert "exited with status code" not in self.said(), "the exit code is 0, of which a worker says nothing"


@pytest.fixture
def third_step(prefect_server: Environment, small: dict[str, Any], tmp_path: Path) -> Iterator[Lost]:
    steps, log = tmp_path / "store/campaigns/small/steps", tmp_path / "worker.log"
    with (
        relay(prefect_server["PREFECT_API_URL"]) as between,
        log.open("wb") as output,
        running_worker(prefect_server | {"PREFECT_API_URL": between.url}, output) as worker,
    ):
        run = start_campaign(prefect_server, small)

        def two_steps_are_done() -> bool:
            assert state_of(prefect_server, run) not in ("FAILED", "CRASHED", "COMPLETED"), log.read_text()
            return (steps / "000002/manifest.json").exists()

        wait_for("two steps", two_steps_are_done)
        (process,) = worker.children()
        yield Lost(run, between, process, steps, log)


@pytest.mark.parametrize("fault", ["is silent", "answers 500"])
def test_without_its_server_a_run_is_stored_whole_and_its_process_ends_within_a_minute(
    third_step: Lost, prefect_server: Environment, fault: Fault
) -> None:
    third_step.server.fail(fault)
    third_step.ends(60)
    assert "Prefect's server did not hear how the run ended: its results are stored" in third_step.said()
    assert state_of(prefect_server, third_step.run) == "RUNNING", "as far as the server knows"


def test_a_server_that_is_back_within_seconds_hears_how_a_run_ended(
    third_step: Lost, prefect_server: Environment
) -> None:
    assert lease_of(prefect_server, third_step.run) is None, "a run that cannot renew it is ended after four minutes"
    third_step.server.fail("refuses")
    wait_for("the last step", (third_step.steps / "000012/manifest.json").exists, 60)
    time.sleep(3)
    third_step.server.recover()
    third_step.ends(50)
    assert "did not hear" not in third_step.said()
    assert state_of(prefect_server, third_step.run) == "COMPLETED"
