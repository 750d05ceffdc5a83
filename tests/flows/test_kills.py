"""Campaigns whose whole process tree is killed, again and again, and stores that are damaged behind their back."""

import itertools
import json
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import fsspec
import httpx
import psutil
import pyarrow.parquet as pq
import pytest

from flows.replay import replay
from infra.analytics import query
from infra.problems import get_problems
from infra.storage import CampaignStore, Store, get_table, table_to_records
from infra.storage.garbage import find
from tests.flows.relay import relay
from tests.flows.test_campaign import Environment, campaign_store, holds, kill_when, running, torl, wait_for
from tests.infra.storage.faults import proxy
from torl_core.curriculum import problem_indices

pytestmark = pytest.mark.slow

STEPS = 12


@pytest.fixture
def config(tmp_path: Path, base_model: Path) -> Path:
    """Many small steps on the reference engine and learner: a second each."""
    path = tmp_path / "campaign.yaml"
    values = {
        "name": "small",
        "store": str(tmp_path / "store"),
        "steps": STEPS,
        "model": {"path": str(base_model), "dtype": "float32"},
        "problems": {"location": "toy:train", "limit": 24},
        "rollout": {"template": "short", "problems_per_step": 4, "samples_per_problem": 4, "max_new_tokens": 48},
        "engine": {"backend": "transformers", "max_num_seqs": 16},
        "sandbox": {"workers": 1},
        "reward": {"code_error": -0.5},
        "trainer": {
            **{"backend": "reference", "learning_rate": 1e-3, "threads": 1},
            **{"row_tokens": 160, "rows_per_micro_batch": 8},
        },
        "evaluation": {"benchmarks": {"greedy": {"problems": {"location": "toy:test", "limit": 8}}}},
    }
    path.write_text(json.dumps(values))
    return path


def soon_after(pattern: str, chance: random.Random) -> Callable[[Path], bool]:
    """True a random while, up to two seconds, after the pattern is first seen."""
    due: list[float] = []

    def ready(store: Path) -> bool:
        if not due and any(store.glob(pattern)):
            due.append(time.monotonic() + chance.uniform(0, 2))
        return bool(due) and time.monotonic() >= due[0]

    return ready


def moments() -> dict[str, Callable[[Path], bool]]:
    """Twenty, in the order in which the campaign comes by them."""
    manifest, rows = "campaigns/small/steps/{:06d}/manifest.json", "trajectories/campaign=small/step={:06d}/*"
    staged, made = "staging/campaign=small/step={:06d}/*", "checkpoints/small/step={:06d}/"
    chance = random.Random(7)
    chosen = {
        "as it is recorded": holds("campaigns/small/config.json"),
        "before the first step": holds("campaigns/small/evaluations/000000/*"),
        "while sampling the first step": soon_after("campaigns/small/evaluations/000000/*", chance),
        "between rollout and reward": holds(staged.format(1)),
        "between reward and training": holds(rows.format(1)),
        "while a checkpoint is written": holds(".torl-tmp-*/policy"),
        "between optimizer state and policy": holds(made.format(2) + "optimizer"),
        "between data and manifest": holds(made.format(2) + "policy"),
        "behind a commit": holds(manifest.format(3)),
    }
    some = {f"at random in step {k}": soon_after(manifest.format(k - 1), chance) for k in range(4, STEPS + 1)}
    last = {
        "behind the last commit": holds(manifest.format(STEPS)),
        "in the last evaluation": soon_after(manifest.format(STEPS), chance),
    }
    return chosen | some | last


@pytest.mark.timeout(1800)
def test_killed_at_twenty_moments_nothing_is_lost_and_nothing_counted_twice(
    config: Path, prefect_server: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = campaign_store(config)
    root, kept = Path(place.store.uri), {}
    assert len(moments()) == 20
    for moment, ready in moments().items():
        kill_when(config, prefect_server, ready)
        found = {path: path.read_bytes() for path in root.glob("trajectories/*/*/part-*.parquet")}
        found |= {path: path.read_bytes() for path in root.glob("campaigns/small/steps/*/manifest.json")}
        assert all(found.get(path) == data for path, data in kept.items()), f"what was stored changed {moment}"
        kept = found
    result = torl(prefect_server, "campaign", config)
    assert result.returncode == 0, result.stderr

    steps = place.steps()
    assert [m.step for m in steps] == list(range(1, STEPS + 1))
    named = {root / ref.key for m in steps for ref in m.trajectories}
    assert {path for path in kept if path.suffix == ".parquet"} <= named, "every stored rollout was used"
    assert set(root.glob("trajectories/*/*/part-*.parquet")) == named, "and nothing lies beside them"
    for manifest in steps:  # the data cursor
        pool = get_problems(place.store, manifest.problems)
        wanted = {pool[i].problem_id for i in problem_indices([""] * 24, 4, manifest.step, 0, {})}
        rows = get_table(place.store, manifest.trajectories[0])
        assert (set(rows.column("problem_id").to_pylist()), len(rows)) == (wanted, 16)
    # An uninterrupted run from the same rollouts would have come to the same bits, step by step.
    monkeypatch.chdir(root.parent)
    for manifest in steps:
        assert replay(place.store.uri, manifest.step).equal, f"step {manifest.step}"


def test_killed_while_sampling_only_the_groups_that_were_under_way_are_sampled_again(
    config: Path, prefect_server: Environment
) -> None:
    values = json.loads(config.read_text())
    values["rollout"] |= {"max_concurrency": 4, "save_every_s": 0}  # a group after the other, stored one by one
    config.write_text(json.dumps(values))
    place = campaign_store(config)
    staging = place.staging_folder(1)
    kill_when(config, prefect_server, holds(f"{staging}/shard-*"))
    assert not any(key.startswith(f"{staging}/part-") for key in place.store.list(staging)), "too late to show anything"
    shards = [pq.read_table(place.store.path(key)) for key in place.store.list(staging)]
    kept = {r.trajectory.trajectory_id: r.trajectory for shard in shards for r in table_to_records(shard)}
    assert 4 <= len(kept) < 16
    result = torl(prefect_server, "campaign", config, "--set", "steps=1")
    assert result.returncode == 0, result.stderr
    rows = get_table(place.store, place.manifest(1).trajectories[0])
    final = {r.trajectory.trajectory_id: r.trajectory for r in table_to_records(rows)}
    assert len(final) == 16
    # Their wall times are equal too, which no second sampling would bring about.
    assert {name: final[name] for name in kept} == kept
    assert place.store.list("staging") == []


# --- on S3


@pytest.mark.parametrize("cache_survives", [True, False])
def test_killed_in_an_upload_to_s3_the_same_weights_come_of_it(
    config: Path,
    prefect_server: Environment,
    ceph_server: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache_survives: bool,
) -> None:
    """Step 2's policy stalls on its way up while step 3 samples; then everything dies, with or without the disk."""
    uri = f"s3://torl/{uuid.uuid4().hex}"
    for name, value in ceph_server.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    values = json.loads(config.read_text()) | {"store": uri, "steps": 3}
    config.write_text(json.dumps(values))
    environment = prefect_server | ceph_server | {"TORL_CACHE": str(tmp_path / "cache")}
    place = CampaignStore(Store.open(uri, cache=tmp_path / "reader"), "small")
    with proxy(ceph_server["AWS_ENDPOINT_URL"]) as between:
        stalled = between.fault("stall", method="PUT", path="step%3D000002/policy/model")
        with running(config, environment | {"AWS_ENDPOINT_URL": between.url}) as process:
            wait_for(lambda: place.store.exists("staging/campaign=small/step=000003"), process)
        assert stalled.struck
    assert place.last_step() == 1, "step 2 was not committed without its checkpoint"
    staged = {path.name for path in (tmp_path / "cache" / "folders").iterdir()}
    if not cache_survives:
        environment |= {"TORL_CACHE": str(tmp_path / "another cache")}
    sampled = set(place.store.list("trajectories"))
    result = torl(environment, "campaign", config)
    assert result.returncode == 0, result.stderr
    steps = place.steps()
    assert [m.step for m in steps] == [1, 2, 3]
    assert sampled <= {ref.key for m in steps for ref in m.trajectories}, "no stored rollout was sampled again"
    assert steps[1].policy_out.digest in staged, "the lost weights were trained again, bit for bit"
    for manifest in steps:
        place.verify_checkpoint(manifest.policy_out, manifest.optimizer)
    assert [(e.step, e.benchmark) for e in place.evaluations()] == [(0, "greedy"), (3, "greedy")]
    counted = query(place.store, "SELECT step, count(*) AS rows FROM trajectories GROUP BY step ORDER BY step")
    assert counted.to_pylist() == [{"step": step, "rows": 16} for step in (1, 2, 3)], "DuckDB reads the same address"


# --- damage


def test_a_damaged_checkpoint_is_put_aside_and_trained_again(config: Path, prefect_server: Environment) -> None:
    """The last step's, and the one before it that it is trained from."""
    assert torl(prefect_server, "campaign", config, "--set", "steps=3").returncode == 0
    place = campaign_store(config)
    before = {key: place.store.read(key) for key in place.store.list("checkpoints/small")}
    for step in (2, 3):
        place.store.write(f"{place.checkpoint_key(step)}/policy/model.safetensors", b"rotten")
    result = torl(prefect_server, "campaign", config, "--set", "steps=4")
    assert result.returncode == 0, result.stderr
    assert " ".join(result.stderr.split()).count("It is made again") == 2
    after = {key: place.store.read(key) for key in before}
    assert after == before
    assert place.last_step() == 4
    aside = [key for key in place.store.list("quarantine") if key.endswith("model.safetensors")]
    assert len(aside) == 2
    assert {place.store.read(key) for key in aside} == {b"rotten"}


def test_damaged_rollouts_of_an_unfinished_step_are_sampled_again_alone(
    config: Path, prefect_server: Environment
) -> None:
    kill_when(config, prefect_server, holds("trajectories/campaign=small/step=000002/*.parquet"))
    place = campaign_store(config)
    first = place.manifest(1)
    (staged,) = place.store.list("staging/campaign=small/step=000002")
    place.store.write(staged, b"rotten")
    for key in place.store.list("prefect-results"):
        if "/small-reward-" in key:  # as if the kill always came before the reward's result was stored
            place.store.delete(key)
    result = torl(prefect_server, "campaign", config, "--set", "steps=2")
    assert result.returncode == 0, result.stderr
    assert [m.step for m in place.steps()] == [1, 2]
    assert place.manifest(1) == first
    (aside,) = place.store.list("quarantine")
    assert aside.endswith(staged)
    assert find(place.store, timedelta(0)).garbage == []


# --- Prefect's server, and the signals that end a run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_prefect_server_that_is_lost_in_mid_run_holds_up_nothing(
    config: Path, prefect_server: Environment, tmp_path: Path, number: signal.Signals
) -> None:
    """The run's own server is killed, or is stopped and takes connections that it never answers."""
    environment = {k: v for k, v in prefect_server.items() if k != "PREFECT_API_URL"}
    environment["PREFECT_HOME"] = str(tmp_path / "prefect")

    def lose(process: subprocess.Popen[bytes]) -> None:
        (server,) = [p for p in psutil.Process(process.pid).children() if "uvicorn" in p.cmdline()]
        server.send_signal(number)

    goes_on_without_its_server(config, environment, lose)


def test_a_prefect_server_that_answers_500_from_mid_run_on_holds_up_nothing(
    config: Path, prefect_server: Environment
) -> None:
    with relay(prefect_server["PREFECT_API_URL"]) as between:
        environment = prefect_server | {"PREFECT_API_URL": between.url}
        goes_on_without_its_server(config, environment, lambda _: between.fail("answers 500"))


def goes_on_without_its_server(
    config: Path, environment: Environment, lose: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    """The server is lost after two steps; the others, the outcome and the exit code are as without that."""
    store = config.parent / "store"
    with running(config, environment) as process:
        wait_for(lambda: holds("campaigns/small/steps/000002/manifest.json")(store), process)
        lose(process)
        lost = time.time()
        assert process.wait(timeout=120) == 0
        took_s = time.time() - lost
    said = " ".join(config.with_suffix(".log").read_text().split())
    written = sorted(path.stat().st_mtime for path in store.glob("campaigns/small/steps/*/manifest.json"))
    assert len(written) == STEPS
    assert max(after - before for before, after in itertools.pairwise(written)) < 20, "a request took 70 s and more"
    assert took_s < 90
    assert "Prefect's server did not hear how the run ended" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_as_ctrl_c_does(
    config: Path, prefect_server: Environment, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    values = json.loads(config.read_text()) | {"name": f"ended-{code}", "steps": 1000}
    config.write_text(json.dumps(values))
    with running(config, prefect_server) as process:
        wait_for(lambda: holds(f"campaigns/ended-{code}/steps/000001/manifest.json")(tmp_path / "store"), process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert psutil.wait_procs(children, timeout=10)[1] == []
    said = " ".join(config.with_suffix(".log").read_text().split())
    assert f"ended by {number.name}; the same command again goes on from the last finished task" in said
    assert "Traceback" not in said
    body = {"flow_runs": {"name": {"any_": [f"ended-{code}"]}}}
    runs = httpx.post(f"{prefect_server['PREFECT_API_URL']}/flow_runs/filter", json=body, timeout=30).json()
    assert [run["state"]["type"] for run in runs] == ["CRASHED"]
