"""Campaigns recorded before a rule came that refuses their settings: they are read as before, and not trained on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.replay import replay
from infra.lineage import pin
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import config
from tests.infra.storage.campaign_kit import run_evaluation, run_step, start
from torl_core.errors import StoreError

REFUSED: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "a group of one": ("rollout", {"samples_per_problem": 1}, "rollout.samples_per_problem is 1"),
    "equal rewards": ("reward", {"wrong": 1.0}, "reward.correct is 1.0 and reward.wrong is 1.0"),
    "a seed of 64 bits": ("", {"seed": 1 << 40}, "seed is 1099511627776"),
    "a rate beyond float32": ("trainer", {"learning_rate": 3e38}, "trainer.learning_rate is 3e+38"),
    "a negative seed": ("", {"seed": -1}, "seed is -1"),
    "averages that never move": ("trainer", {"betas": [0.9, 1.0]}, "trainer.betas.1 is 1.0"),
}


@pytest.fixture(params=REFUSED)
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CampaignStore, str]:
    """A campaign of one step and one evaluation whose record holds a setting that is refused now; and the refusal."""
    section, values, said = REFUSED[request.param]
    campaign = start(Store.open(tmp_path / "store"), "old")
    run_evaluation(campaign, 1, run_step(campaign, 1, tmp_path, loss=0.5).policy_out)
    record = campaign.config()
    assert record is not None
    (record[section] if section else record).update(values)
    (tmp_path / "store" / campaign.config_key).write_text(json.dumps(record))
    return campaign, said


def torl(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_read_as_before(planted: tuple[CampaignStore, str], tmp_path: Path) -> None:
    campaign, uri = planted[0], planted[0].store.uri
    record = campaign.config()
    assert record is not None
    assert "old: 1 steps, 2 rows" in torl("store", "ls", uri)
    (found,) = json.loads(torl("sql", uri, "SELECT seed, config FROM campaigns", "--format", "json"))
    assert (found["seed"], json.loads(found["config"])) == (record["seed"], record)
    assert json.loads(torl("sql", uri, "SELECT count(*) AS n FROM evaluations", "--format", "json")) == [{"n": 2}]
    assert "old-1-0" in torl("show", uri, "old-1-0")
    torl("report", uri, "--out", str(tmp_path / "report.html"))
    assert "old" in (tmp_path / "report.html").read_text()


def test_it_is_whole_and_the_rules_are_named(planted: tuple[CampaignStore, str]) -> None:
    campaign, said = planted
    result = CliRunner().invoke(app, ["store", "verify", campaign.store.uri], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "")
    note, *_, whole = result.stderr.splitlines()
    assert note.startswith(f"{campaign.config_key} was recorded under other rules: ")
    assert said in note
    assert whole.endswith("all whole")


def test_it_is_not_trained_on_and_the_setting_is_named(planted: tuple[CampaignStore, str]) -> None:
    campaign, said = planted
    asked = config("old").model_copy(update={"store": campaign.store.uri})
    for train_on in (lambda: campaign.check_config(asked), lambda: replay(campaign.store.uri, 1)):
        with pytest.raises(StoreError, match="campaign 'old' can be read, and not trained on") as caught:
            train_on()
        assert said in caught.value.what
        assert campaign.config_key in caught.value.what
        assert "errors.pydantic.dev" not in str(caught.value)


def test_a_step_of_it_can_be_forked(planted: tuple[CampaignStore, str], tmp_path: Path) -> None:
    source = planted[0].store.uri
    fork = config("new", fork={"store": source, "step": 1}).model_copy(update={"store": str(tmp_path / "other")})
    pinned = pin(fork).fork
    assert pinned is not None
    assert (pinned.campaign, pinned.policy) == ("old", planted[0].steps()[0].policy_out.digest)
