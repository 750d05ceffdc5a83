"""Whole campaigns as a user runs them: through `torl`, in processes that are killed for real."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.storage import CampaignStore, Store

BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow

Environment = dict[str, str]


@pytest.fixture
def config(tmp_path: Path, base_model: Path) -> Path:
    """Three small steps on the reference engine: seconds each."""
    path = tmp_path / "campaign.yaml"
    values = {
        "name": "small",
        "store": str(tmp_path / "store"),
        "steps": 3,
        "model": {"path": str(base_model), "dtype": "float32"},
        "problems": {"location": "toy:train", "limit": 64},
        "rollout": {"template": "short", "problems_per_step": 8, "samples_per_problem": 4, "max_new_tokens": 48},
        "engine": {"backend": "transformers", "max_num_seqs": 32},
        "reward": {"code_error": -0.5},  # the tiny base is never right: this gives training something to do
        "algorithm": {"updates_per_step": 2},
        "trainer": {"learning_rate": 1e-3, "row_tokens": 160, "rows_per_micro_batch": 8, "zero_stage": 1, "threads": 1},
        "evaluation": {"benchmarks": {"greedy": {"problems": {"location": "toy:test", "limit": 16}}}},
    }
    path.write_text(json.dumps(values))
    return path


def torl(environment: Environment, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "torl"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


def campaign_store(config: Path) -> CampaignStore:
    values = json.loads(config.read_text())
    return CampaignStore(Store.open(values["store"]), values["name"])


def test_a_campaign_leaves_steps_rows_checkpoints_and_evaluations(config: Path, prefect_server: Environment) -> None:
    result = torl(prefect_server, "campaign", config)
    assert result.returncode == 0, result.stderr
    narration = r"small [123]/3 accuracy \d\.\d\d  reward -\d\.\d\d  with calls \d\.\d\d"  # of slow steps, and the last
    said = result.stderr.splitlines()
    assert said[-1].startswith("small 3/3 ")
    assert [line for line in said if not re.fullmatch(narration, line)] == []
    outcome = json.loads(result.stdout)
    store = campaign_store(config)
    steps = store.steps()

    assert [m.step for m in steps] == [1, 2, 3]
    assert outcome["policy"]["digest"] == steps[-1].policy_out.digest
    assert [m.policy_in.version for m in steps] == [0, 1, 2]
    assert all(after.policy_in == before.policy_out for before, after in itertools.pairwise(steps))
    assert {m.policy_out.digest for m in steps} | {steps[0].policy_in.digest} == {
        digest for m in steps for digest in (m.policy_in.digest, m.policy_out.digest)
    }
    assert len({m.policy_out.digest for m in steps}) == 3, "every step changed the weights"
    assert {e.step for e in store.evaluations()} == {0, 3}
    for manifest in steps:
        rows = pq.read_table(store.store.path(manifest.trajectories[0].key)).to_pylist()
        assert len(rows) == 8 * 4
        assert len({row["group_id"] for row in rows}) == 8
        assert {row["policy_version"] for row in rows} == {manifest.step - 1}
        assert all(len(row["token_ids"]) == len(row["loss_mask"]) == len(row["logprobs"]) for row in rows)
        assert set(manifest.phases_s) == {"rollout", "reward", "train", "checkpoint", "total"}
    assert not store.store.list("staging"), "what was only staged is gone once its step is done"

    again = torl(prefect_server, "campaign", config)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == outcome
    assert store.steps() == steps, "nothing was run or written twice"
    before = store.evaluations()

    fewer = [f"--set=evaluation.benchmarks.greedy.{change}" for change in ("problems.limit=4", "max_calls=0")]
    asked = torl(prefect_server, "evaluate", config, *fewer)
    assert asked.returncode == 0, asked.stderr
    (made,) = json.loads(asked.stdout)
    assert (made["step"], made["max_calls"], made["problems"]["rows"], made["trajectories"][0]["rows"]) == (3, 0, 4, 4)
    assert [e for e in store.evaluations() if e.identity != made["identity"]] == before, "both are there"


@contextmanager
def running(config: Path, environment: Environment) -> Iterator[subprocess.Popen[bytes]]:
    """A campaign, killed with its whole process group when the block ends. What it said is shown if the test fails."""
    output = config.with_suffix(".log")
    with output.open("wb") as log:
        process = subprocess.Popen(
            [BIN / "torl", "campaign", config], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(output.read_text(errors="replace"))


def kill_when(config: Path, environment: Environment, ready: Callable[[Path], bool]) -> None:
    """Start a campaign and kill its whole process group the moment `ready` says so of its store."""
    store = Path(json.loads(config.read_text())["store"])
    with running(config, environment) as process:
        wait_for(lambda: ready(store), process, pause_s=0.005)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], pause_s: float = 0.1) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, "the campaign ended before it could be killed"
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(pause_s)


def holds(pattern: str) -> Callable[[Path], bool]:
    return lambda store: any(store.glob(pattern))


def test_killed_around_training_it_resumes_without_sampling_or_counting_twice(
    config: Path, prefect_server: Environment
) -> None:
    moments = {
        "between reward and training of step 1": holds("trajectories/campaign=small/step=000001/*.parquet"),
        "between training and commit of step 2": holds("checkpoints/small/step=000002/policy/*.safetensors"),
    }
    store = Path(json.loads(config.read_text())["store"])
    kept: dict[Path, bytes] = {}
    for moment, ready in moments.items():
        kill_when(config, prefect_server, ready)
        found = {path: path.read_bytes() for path in store.glob("trajectories/*/*/part-*.parquet")}
        assert all(found.get(path) == data for path, data in kept.items()), f"stored rollouts changed {moment}"
        kept = found
    # The server's database is no part of it: the last run has a new one of its own.
    result = torl({k: v for k, v in prefect_server.items() if k != "PREFECT_API_URL"} | {
        "PREFECT_HOME": str(store.parent / "other-prefect")}, "campaign", config)  # fmt: skip
    assert result.returncode == 0, result.stderr
    manifests = campaign_store(config).steps()
    assert [m.step for m in manifests] == [1, 2, 3]
    named = {store / ref.key for m in manifests for ref in m.trajectories}
    assert set(kept) <= named, "every stored rollout was used"
    assert set(store.glob("trajectories/*/*/part-*.parquet")) == named, "and nothing lies beside them"


def test_training_from_stored_trajectories_gives_the_same_weights_bit_for_bit(
    config: Path, prefect_server: Environment
) -> None:
    assert torl(prefect_server, "campaign", config).returncode == 0
    whole = campaign_store(config).steps()
    # As if the machine had died in the last step's training: its rollouts and rewards are stored, its outcome is not.
    store = campaign_store(config).store
    for lost in ("campaigns/small/steps/000003", "checkpoints/small/step=000003", "campaigns/small/evaluations/000003"):
        store.delete(lost)
    for result in store.list("prefect-results"):
        if result.startswith(("prefect-results/small-train", "prefect-results/small-evaluate")):
            store.delete(result)
    assert torl(prefect_server, "campaign", config).returncode == 0
    resumed = campaign_store(config).steps()
    assert resumed[2].trajectories == whole[2].trajectories
    assert resumed[2].policy_out == whole[2].policy_out
    assert resumed[2].optimizer == whole[2].optimizer


def test_other_settings_under_the_same_name_are_refused(config: Path, prefect_server: Environment) -> None:
    equal = ("campaign", config, "--set", "reward.code_error=0")  # the tiny base is never right
    first = torl(prefect_server, *equal, "--set", "steps=1")
    assert first.returncode == 0, first.stderr
    assert "1 of 1 steps of small had no group with different rewards; it has learned nothing" in first.stderr
    refused = torl(prefect_server, *equal, "--set", "tool.max_calls=2")
    assert refused.returncode == 2
    assert "tool.max_calls was 1, is now 2" in refused.stderr
    longer = torl(prefect_server, *equal, "--set", "steps=2", "--set", "retention.last=1")
    assert longer.returncode == 0, longer.stderr
    store = campaign_store(config)
    assert [store.is_removed(manifest.policy_out) for manifest in store.steps()] == [True, False]


def test_bad_input_is_refused_before_anything_starts(config: Path, prefect_server: Environment, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "problem": "1+1?", "answer": "2"}\n{"id": 2, "problem": "no answer"}\n')
    empty = tmp_path / "empty-model"
    shutil.copytree(json.loads(config.read_text())["model"]["path"], empty)
    (empty / "tokenizer.json").unlink()
    locked = tmp_path / "a-file"
    locked.write_text("")
    for override, said in {
        f"problems.location={rows}": "line 2",
        f"model.path={empty}": "tokenizer",
        "model.path=/no/such/model": "/no/such/model",
        f"store={locked}/store": str(locked),
        "rollout.problems_per_step=128": "64 usable problems",
    }.items():
        result = torl(prefect_server, "campaign", config, "--set", override)
        assert result.returncode in (1, 2), (override, result.stderr)
        assert said in " ".join(result.stderr.split()), (override, result.stderr)
        assert "Traceback" not in result.stderr, (override, result.stderr)
        assert not (tmp_path / "store" / "trajectories").exists()
