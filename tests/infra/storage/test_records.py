"""What a campaign's config and manifests record, and cannot: `torl store verify` names it and ends with 1."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.storage import CampaignStore, Store
from tests.infra.storage.campaign_kit import asking, run_evaluation, run_step

Edit = Callable[[dict[str, Any]], Any]

CONFIG = "campaigns/demo/config.json"
STEP = "campaigns/demo/steps/000002/manifest.json"
EVALUATION = "campaigns/demo/evaluations/000002/toy-"

IMPOSSIBLE: dict[str, tuple[str, Edit, str]] = {  # the file, what is done to its values, and what is said of it
    "a negative learning rate": (
        CONFIG, lambda v: v["trainer"].update(learning_rate=-1e-6),
        "trainer.learning_rate is -1e-06: input should be greater than or equal to",
    ),
    "a negative count": (CONFIG, lambda v: v["tool"].update(max_calls=-1), "tool.max_calls is -1"),
    "a benchmark's negative temperature": (
        CONFIG, lambda v: v["evaluation"]["benchmarks"]["toy"].update(temperature=-0.5),
        "evaluation.benchmarks.toy.temperature is -0.5",
    ),
    "a word for a number": (CONFIG, lambda v: v["trainer"].update(weight_decay="low"), "trainer.weight_decay is 'low'"),
    "a list for a section": (CONFIG, lambda v: v.update(rollout=[]), "rollout is []"),
    "no model": (CONFIG, lambda v: v.pop("model"), "model is missing"),
    "another campaign's config": (CONFIG, lambda v: v.update(name="other"), "it is the config of campaign 'other'"),
    "another step's manifest": (STEP, lambda v: v.update(step=1), "is of step 1 of campaign 'demo'"),
    "the policy of another step": (
        STEP, lambda v: v["policy_out"].update(version=7), "policy_out.version is 7, and this step's is 2",
    ),
    "a policy that no step made": (
        STEP, lambda v: v["policy_in"].update(digest="e" * 64), f"policy_in has digest '{'e' * 64}', and step 1 made '",
    ),
    "a short digest of rows": (
        STEP, lambda v: v["trajectories"][0].update(digest="abc"), "trajectories.digest is 'abc', which is not 64",
    ),
    "a digest in capitals": (
        STEP, lambda v: v["optimizer"].update(digest="A" * 64), f"optimizer.digest is '{'A' * 64}', which is not 64",
    ),
    "a long digest of problems": (
        STEP, lambda v: v["problems"].update(digest="b" * 65), f"problems.digest is '{'b' * 65}', which is not 64",
    ),
    "a short digest of a config": (
        STEP, lambda v: v.update(config_digest=""), "config_digest is '', which is not 12 hexadecimal digits",
    ),
    "fewer than no rows": (STEP, lambda v: v["trajectories"][0].update(rows=-2), "trajectories.rows is -2"),
    "fewer than no bytes": (STEP, lambda v: v["trajectories"][0].update(bytes=-1), "trajectories.bytes is -1"),
    "rows outside the store": (
        STEP, lambda v: v["trajectories"][0].update(key="../x"), "trajectories.key is '../x', which is outside",
    ),
    "time that ran backwards": (STEP, lambda v: v.update(phases_s={"train": -1.0}), "phases_s.train is -1.0, and 0 is"),
    "no time": (STEP, lambda v: v.update(created_at="then"), "created_at is 'then', which is no time"),
    "a version before the first": (STEP, lambda v: v.update(schema_version=0), "schema_version is 0, and 1 is"),
    "no sample of a problem": (EVALUATION, lambda v: v.update(samples=0), "samples is 0, and 1 is the least"),
    "a negative C": (EVALUATION, lambda v: v.update(max_calls=-1), "max_calls is -1, and 0 is the least"),
    "an infinite temperature": (EVALUATION, lambda v: v.update(temperature=1e999), "temperature is inf, and 0 is"),
    "another policy's evaluation": (
        EVALUATION, lambda v: v["policy"].update(version=1), "policy.version is 1, and this step's is 2",
    ),
    "another benchmark's file": (
        EVALUATION, lambda v: v.update(benchmark="aime"), "benchmark 'aime' and identity '",
    ),
}  # fmt: skip


@pytest.fixture
def campaign(tmp_path: Path) -> CampaignStore:
    """Three steps and an evaluation of the second policy."""
    campaign = CampaignStore(Store.open(tmp_path / "store"), "demo")
    campaign.save_config(asking(campaign))
    for step in (1, 2, 3):
        run_step(campaign, step, tmp_path, loss=0.5)
    made = campaign.manifest(2)
    assert made is not None
    run_evaluation(campaign, 2, made.policy_out)
    return campaign


def verify(campaign: CampaignStore) -> Result:
    return CliRunner().invoke(app, ["store", "verify", campaign.store.uri], catch_exceptions=False)


def edit(campaign: CampaignStore, place: str, change: Edit) -> str:
    """Change the one file whose key begins with `place`; returns its key."""
    (key,) = [key for key in campaign.store.list("campaigns") if key.startswith(place)]
    values = json.loads(campaign.store.read(key))
    change(values)
    campaign.store.write(key, json.dumps(values).encode())
    return key


@pytest.mark.parametrize(("place", "change", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_value_is_damage(campaign: CampaignStore, place: str, change: Edit, said: str) -> None:
    assert verify(campaign).exit_code == 0
    key = edit(campaign, place, change)
    result = verify(campaign)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{key}: ")]
    assert said in line
    assert "estore" in line
    assert "other rules" not in result.stderr


def test_a_missing_step_and_a_missing_config_are_damage(campaign: CampaignStore) -> None:
    for key in (CONFIG, STEP):
        campaign.store.delete(key)
    lines = verify(campaign).stdout.splitlines()
    assert [line.split(". ")[0] for line in lines] == [f"{key}: it is not there" for key in (CONFIG, STEP)]


def test_a_torn_manifest_is_named_once(campaign: CampaignStore) -> None:
    campaign.store.write(STEP, b"{")
    (line,) = verify(campaign).stdout.splitlines()
    assert line.startswith(f"{STEP}: ")
    assert "is not JSON" in line


def test_a_key_of_another_version_is_no_damage(campaign: CampaignStore) -> None:
    edit(campaign, CONFIG, lambda values: values["trainer"].update(momentum=0.9))
    result = verify(campaign)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{CONFIG} was recorded under other rules: trainer.momentum is not a key. " in result.stderr
