"""The learning rate's schedule has its own length, which the store remembers when `steps` is raised."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.replay import changed_config
from infra.lineage import pin
from infra.resources import session
from infra.storage import CampaignStore, Store
from tasks.prepare import prepare
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError

RATES = pytest.approx([0.0005, 0.0007, 0.0004, 0.0001])
"""By hand: a step of warm-up at half of 0.001, then in three equal steps from 0.001 down to a tenth of it."""


@pytest.fixture
def four(values: dict[str, Any]) -> dict[str, Any]:
    schedule = {"learning_rate": 1e-3, "final_learning_rate_share": 0.1, "warmup_steps": 1}
    return values | {"steps": 4, "trainer": values["trainer"] | schedule}


def started(values: dict[str, Any], **changes: Any) -> CampaignConfig:
    """The config as the flow uses it, which the store has recorded."""
    with session():
        config = pin(CampaignConfig.model_validate(values | changes))
        prepare.fn(config)
    return config


def rates(config: CampaignConfig, steps: int) -> list[float]:
    return [config.learning_rate(step) for step in range(1, steps + 1)]


def own(config: CampaignConfig) -> CampaignStore:
    return CampaignStore(Store.open(config.store), config.name)


def test_raised_steps_leave_the_rates_as_they_were_and_go_on_at_the_final_one(four: dict[str, Any]) -> None:
    assert rates(first := started(four), 4) == RATES
    for _ in range(2):  # each start records the config anew
        raised = started(four, steps=8)
        assert rates(raised, 4) == RATES
        assert rates(raised, 8)[4:] == pytest.approx([1e-4] * 4)
        assert own(raised).recorded_config() == raised
    assert raised.identity() == first.identity()


def test_a_campaign_of_an_earlier_version_has_a_schedule_of_its_recorded_steps(four: dict[str, Any]) -> None:
    config = started(four)
    record = own(config).config()
    assert record is not None
    assert record["trainer"].pop("schedule_steps") == 4
    (Path(config.store) / own(config).config_key).write_text(json.dumps(record))
    assert started(four, steps=8).trainer.schedule_steps == 4
    assert own(config).recorded_config().trainer.schedule_steps == 4


def test_a_config_may_name_the_length_and_cannot_change_it_later(four: dict[str, Any]) -> None:
    longer = four["trainer"] | {"schedule_steps": 10}
    assert started(four, trainer=longer).trainer.schedule_steps == 10
    assert started(four, steps=8).trainer.schedule_steps == 10
    with pytest.raises(ConfigError, match=r"trainer.schedule_steps was 10, is now 8"):
        started(four, trainer=four["trainer"] | {"schedule_steps": 8})


def test_a_replay_without_changes_has_none(four: dict[str, Any]) -> None:
    recorded = own(started(four)).recorded_config()
    config, changed = changed_config(recorded, [])
    assert (config, changed) == (recorded, {})
    assert changed_config(recorded, ["trainer.schedule_steps=8"])[1] == {"trainer.schedule_steps": (4, 8)}
