"""A real small campaign, trained again from its store and gone on from, through `torl` as a user runs it."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows.replay import changed_config, judged
from infra.analytics import query
from infra.resources import session
from infra.sole_use import sole_use
from infra.storage import CampaignStore, Store, get_table, records_to_table, table_to_records
from tests.flows.test_campaign import BIN, Environment, torl, wait_for
from tests.infra.analytics.stored_kit import ANSWER, Letters, judged_by, response
from torl_core import grading
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError

# --- what may change


RECORDED = CampaignConfig.model_validate(
    {"name": "c", "store": "s", "steps": 3, "model": {"path": "m"}, "problems": {"location": "p.jsonl"}}
)


def test_settings_of_training_change():
    overrides = ["trainer.learning_rate=1e-4", "reward.code_error=-0.5", "algorithm.clip_high=0.2"]
    config, changed = changed_config(RECORDED, overrides)
    assert changed == {"trainer.learning_rate": (1e-6, 1e-4), "reward.code_error": (0.0, -0.5)}
    assert (config.trainer.learning_rate, config.reward.code_error) == (1e-4, -0.5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.path=other", "reward.correct=2"], r"cannot change model\.path\."),
        (["tool.max_calls=2", "seed=1"], r"cannot change seed, tool\.max_calls\."),
        (["rollout.temperature=0.5"], r"cannot change rollout\.temperature\."),
        (["problems.location=q.jsonl"], r"cannot change problems\.location\."),
        (["trainer.learning_rat=1"], "did you mean learning_rate"),
        (["trainer.row_tokens=8"], "must hold a prompt and its whole response"),
    ],
)
def test_settings_that_decided_what_was_sampled_do_not(overrides, said):
    with pytest.raises(ConfigError, match=said):
        changed_config(RECORDED, overrides)


def test_stored_verdicts_are_taken_of_the_grader_that_made_them_and_no_other(monkeypatch):
    """The rows' verdicts are the opposite of what the grader says."""
    monkeypatch.setattr(grading, "VERSION", "7")
    records = [response("a-0-0", "So \\boxed{2}", correct=True), response("a-0-1", ANSWER, correct=False)]
    rows = records_to_table(judged_by("6", records), Letters())

    def replayed(grader):
        table = judged(rows, changed_config(RECORDED, [f"reward.grader={grader}", "reward.wrong=-2"])[0])
        return [tuple(row.values()) for row in table.select(["correct", "grader", "reward"]).to_pylist()]

    assert replayed("6") == [(True, "6", 1.0), (False, "6", -2.0)]
    with session():
        assert replayed("7") == [(False, "7", -2.0), (True, "7", 1.0)]


# --- on a finished campaign


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, base_model: Path, prefect_server: Environment) -> Path:
    """The config of a campaign of two steps, each of two updates with a decaying rate."""
    home = tmp_path_factory.mktemp("finished")
    values = {
        "name": "small",
        "store": str(home / "store"),
        "steps": 2,
        "model": {"path": str(base_model), "dtype": "float32"},
        "problems": {"location": "toy:train", "limit": 32},
        "rollout": {"template": "short", "problems_per_step": 8, "samples_per_problem": 4, "max_new_tokens": 48},
        "engine": {"backend": "transformers", "max_num_seqs": 32},
        "reward": {"code_error": -0.5},  # the tiny base is never right: this gives training something to do
        "algorithm": {"updates_per_step": 2},
        "trainer": {
            **{"learning_rate": 1e-3, "final_learning_rate_share": 0.5, "threads": 1},
            **{"row_tokens": 160, "rows_per_micro_batch": 8},
        },
    }
    config = home / "campaign.yaml"
    config.write_text(json.dumps(values))
    done = torl(prefect_server, "campaign", config)
    assert done.returncode == 0, done.stderr
    return config


@pytest.fixture
def source(finished: Path, tmp_path: Path) -> Path:
    """A copy of its store, to do with as one likes."""
    return Path(shutil.copytree(finished.parent / "store", tmp_path / "source"))


@pytest.mark.slow
def test_unchanged_a_replay_equals_its_step_bit_for_bit(finished: Path, prefect_server: Environment) -> None:
    store = Store.open(finished.parent / "store")
    before = store.list("")
    away = {name: value for name, value in prefect_server.items() if name != "PREFECT_API_URL"}
    result = torl(away, "replay", f"{store.uri}@2", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    step = CampaignStore(store, "small").manifest(2)
    assert (found["equal"], found["changed"], found["distance"], found["regraded"]) == (True, {}, 0.0, 0)
    assert found["replay"]["weights"] == found["original"]["weights"] == step.policy_out.digest
    assert found["replay"]["optimizer"] == step.optimizer.digest
    assert found["original"]["metrics"] == step.metrics
    assert found["replay"]["metrics"] == {k: v for k, v in step.metrics.items() if k != "upload_s"}
    assert found["replay"]["update_norm"] == found["original"]["update_norm"] > 0
    assert store.list("") == before, "a replay writes nothing to the store"


@pytest.mark.slow
def test_changed_it_is_another_step_and_can_be_saved(source: Path, prefect_server: Environment, tmp_path: Path) -> None:
    shutil.rmtree(source / "checkpoints" / "small" / "step=000001")  # as if retention had been here: step 1 goes on
    place = source / CampaignStore(Store.open(source), "small").manifest_key(1)
    place.write_text(json.dumps(json.loads(place.read_text()) | {"grader": "0"}))  # as if another grader had judged it
    sets = ["trainer.learning_rate=1e-4", "reward.wrong=-2", "algorithm.normalise_by_std=false"]
    flags = [part for setting in sets for part in ("--set", setting)]
    # As a replay leaves it that is killed while it writes.
    for name in ("unfinished", "optimizer/half.safetensors", ".torl-tmp-x/policy/half.safetensors"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"half")
    result = torl(prefect_server, "replay", f"{source}@1", *flags, "--json", "--save", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    step = CampaignStore(Store.open(source), "small").manifest(1)
    assert not found["equal"]
    assert found["changed"]["reward.wrong"] == [-1.0, -2.0]
    assert (found["grader"], found["regraded"]) == ("0", None)
    assert found["original"]["metrics"] == step.metrics
    # A wrong response's reward is one lower; the rate is the new schedule's at step 1 of 2.
    lower = step.metrics["reward"] - (1 - step.metrics["accuracy"])
    assert found["replay"]["metrics"]["reward"] == pytest.approx(lower)
    assert found["replay"]["metrics"]["learning_rate"] == pytest.approx(0.75e-4)
    assert found["replay"]["update_norm"] > 0
    assert (found["original"]["update_norm"], found["distance"]) == (None, None), "its weights are gone"
    saved = Store.open(found["saved"])
    saved.verify_folder("policy", found["replay"]["weights"])
    saved.verify_folder("optimizer", found["replay"]["optimizer"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"policy", "optimizer"}

    again = torl(prefect_server, "replay", f"{source}@1", "--save", tmp_path / "out")
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    neither = torl(prefect_server, "replay", f"{source}@1", "--set", "reward.grader=x")
    assert neither.returncode == 2
    assert "reward.grader is x, grader 0 judged step 1" in " ".join(neither.stderr.split())
    gone = torl(prefect_server, "replay", f"{source}@2")
    assert gone.returncode == 1
    assert "replay of step 2 of campaign 'small' is not possible" in " ".join(gone.stderr.split())


def as_if_judged_by(grader, campaign):
    """The campaign's record and manifests as a torl with that grader would have left them."""
    for place in (campaign.config_key, campaign.manifest_key(1), campaign.manifest_key(2)):
        found = campaign.store.read_json(place)
        (found["reward"] if place == campaign.config_key else found)["grader"] = grader
        campaign.store.write_json(place, found)


@pytest.mark.slow
def test_resumed_under_other_settings_each_step_says_under_which_it_was_made(
    finished: Path, source: Path, prefect_server: Environment
) -> None:
    campaign = CampaignStore(Store.open(source), "small")
    as_if_judged_by("0", campaign)
    first = campaign.steps()
    refused = torl(prefect_server, "campaign", finished, "--set", f"store={source}")
    assert refused.returncode == 2
    assert f"grader has version {grading.VERSION}, and reward.grader is 0" in " ".join(refused.stderr.split())
    other = {
        "rollout.max_concurrency": 8,
        "engine.max_num_seqs": 4,
        "sandbox.workers": 1,
        "trainer.processes": 2,
        "trainer.zero_stage": 2,
        "trainer.rows_per_micro_batch": 2,
    }
    problems = {"location": "toy:test", "limit": 4}
    sets = {"store": source, "steps": 3, "reward.grader": grading.VERSION, **other}
    sets |= {f"evaluation.benchmarks.greedy.problems.{name}": value for name, value in problems.items()}
    resumed = torl(prefect_server, "campaign", finished, *(f"--set={name}={value}" for name, value in sets.items()))
    assert resumed.returncode == 0, resumed.stderr
    assert campaign.steps()[:2] == first, "no earlier step was made again"
    columns = ", ".join(f"CAST(settings->>'$.{name}' AS INTEGER)" for name in other)
    made = [
        tuple(row.values()) for row in query(campaign.store, f"SELECT {columns} FROM steps ORDER BY step").to_pylist()
    ]
    assert made == [(2048, 32, 2, 1, 1, 8), (2048, 32, 2, 1, 1, 8), (8, 4, 1, 2, 2, 2)]
    for evaluation in campaign.evaluations():
        assert evaluation.settings["engine"]["max_num_seqs"] == 4
        assert evaluation.settings["rollout"] == {"max_concurrency": 8}
        assert "trainer" not in evaluation.settings
        assert evaluation.grader == grading.VERSION
    assert [step.grader for step in campaign.steps()] == ["0", "0", grading.VERSION]
    assert campaign.recorded_config().reward.grader == grading.VERSION
    assert [e.step for e in campaign.evaluations()] == [0, 3]
    replayed = torl(prefect_server, "replay", f"{source}@2", "--json")
    assert json.loads(replayed.stdout)["equal"], "step 2 is trained again on the one rank that made it"


@pytest.mark.slow
def test_a_fork_starts_from_the_step_and_outlives_its_source(
    finished: Path, source: Path, prefect_server: Environment, tmp_path: Path
) -> None:
    flags = ["--fork", f"{source}@1", "--set", "name=fork", "--set", f"store={tmp_path / 'own'}", "--set", "steps=1"]
    first = torl(prefect_server, "campaign", finished, *flags)
    assert first.returncode == 0, first.stderr
    parent = CampaignStore(Store.open(source), "small").manifest(1)
    fork = CampaignStore(Store.open(tmp_path / "own"), "fork")
    (step,) = fork.steps()
    assert step.policy_in.digest == parent.policy_out.digest
    recorded = fork.recorded_config().fork
    assert (recorded.store, recorded.campaign, recorded.step) == (str(source), "small", 1)
    assert (recorded.policy, recorded.optimizer) == (parent.policy_out.digest, parent.optimizer.digest)
    records = table_to_records(get_table(fork.store, step.trajectories[0]))
    assert {record.trajectory.policy_version for record in records} == {0}
    updates = json.loads(fork.store.read("checkpoints/fork/step=000001/optimizer/state.json"))["updates"]
    assert updates == 4, "two of the source's step and two of its own"

    shutil.rmtree(source)
    resumed = torl(prefect_server, "campaign", finished, *flags[:-1], "steps=2")
    assert resumed.returncode == 0, resumed.stderr
    assert [m.step for m in fork.steps()] == [1, 2]
    assert fork.steps()[0] == step
    replayed = torl(prefect_server, "replay", f"{tmp_path / 'own'}@1")
    assert replayed.returncode == 0, replayed.stderr
    assert "equal: weights and optimizer state are the step's own" in " ".join(replayed.stdout.split())


# --- kill -9


def kill_9(temporary: Path, ready: Callable[[Sequence[str]], bool], environment: Environment, *words: object) -> None:
    """Kill a `torl` command, and nothing else, once `ready` says so of what its children run. Nothing of it stays."""
    process = subprocess.Popen(
        [BIN / "torl", *map(str, words)], env=environment | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def descendants() -> list[psutil.Process]:
        return psutil.Process(process.pid).children(recursive=True)

    def lines() -> list[str]:
        found = []
        for child in descendants():
            with suppress(psutil.Error):
                found.append(" ".join(child.cmdline()))
        return found

    wait_for(lambda: ready(lines()), process, pause_s=0.01)
    left = descendants()
    assert len(left) > 0
    assert list(temporary.iterdir()) != []
    process.kill()
    process.wait()
    alive = psutil.wait_procs(left, timeout=10)[1]
    for orphan in alive:
        orphan.kill()
    assert alive == []
    deadline = time.monotonic() + 10
    while any(temporary.iterdir()):
        assert time.monotonic() < deadline, list(temporary.rglob("*"))
        time.sleep(0.05)


def runs(program: str) -> Callable[[Sequence[str]], bool]:
    return lambda lines: any(program in line for line in lines)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path, since sockets lie in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
def test_an_evaluation_that_is_killed_is_made_again_and_counts_once(
    finished: Path, source: Path, prefect_server: Environment, temporary: Path, tmp_path: Path
) -> None:
    undisturbed = Path(shutil.copytree(source, tmp_path / "undisturbed"))
    problems = {"location": "toy:test", "limit": 96}
    sets = [f"--set=evaluation.benchmarks.greedy.problems.{name}={value}" for name, value in problems.items()]
    command = ("evaluate", finished, *sets, f"--set=store={source}")
    campaign = CampaignStore(Store.open(source), "small")

    def writing(_: Sequence[str]) -> bool:
        return campaign.store.list("evaluations") != []

    kill_9(temporary, runs("bwrap"), prefect_server, *command)
    assert (campaign.evaluations(), campaign.store.list("evaluations")) == ([], [])
    kill_9(temporary, writing, prefect_server, *command)
    before = campaign.evaluations()
    again = torl(prefect_server, *command)
    assert again.returncode == 0, again.stderr
    (made,) = campaign.evaluations()
    assert before in ([], [made])
    assert campaign.store.list("evaluations") == [ref.key for ref in made.trajectories]
    expected = torl(prefect_server, *command[:-1], f"--set=store={undisturbed}")
    (other,) = CampaignStore(Store.open(undisturbed), "small").evaluations()
    assert (made.identity, made.metrics) == (other.identity, other.metrics), expected.stderr


@pytest.mark.slow
def test_a_replay_that_is_killed_in_training_is_made_again(
    source: Path, prefect_server: Environment, temporary: Path, tmp_path: Path
) -> None:
    command = ("replay", f"{source}@2", "--json", "--save", tmp_path / "out")
    kill_9(temporary, runs("torl_core.trainer.rank"), prefect_server, *command)
    again = torl(prefect_server, *command)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["equal"]
    Store.open(tmp_path / "out").verify_folder("policy", found["replay"]["weights"])


@pytest.mark.slow
def test_a_demo_that_is_killed_gives_its_folder_and_its_server_back(
    prefect_server: Environment, temporary: Path, tmp_path: Path
) -> None:
    environment = {name: value for name, value in prefect_server.items() if name != "PREFECT_API_URL"}
    for _ in range(2):
        kill_9(temporary, runs("uvicorn"), environment, "demo", "--out", tmp_path)
        with sole_use(tmp_path):
            assert not (tmp_path / "seed-0" / "base").exists()
