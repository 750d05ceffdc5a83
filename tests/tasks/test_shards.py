"""Groups of a rollout under way: what is stored of them, and what an attempt after it takes from there."""

import asyncio
from dataclasses import replace

import pytest

from infra.storage import Record, Ref, Store
from tasks.shards import Shards
from tests.infra.analytics.stored_kit import Letters, response
from tests.infra.storage.campaign_kit import BASE, run_step, start
from torl_core.errors import StoreError

PROBLEMS = Ref("problems/x.parquet", "f" * 64)


@pytest.fixture
def campaign(tmp_path):
    return start(Store.open(tmp_path / "store"))


def shards_of(campaign, policy=BASE, problems=PROBLEMS, step=1, *, every_s=0.0, **settings):
    recorded = campaign.recorded_config()
    rollout = recorded.rollout.model_copy(update={"samples_per_problem": 2, "save_every_s": every_s})
    return Shards(recorded.model_copy(update={"rollout": rollout, **settings}), campaign, step, policy, problems)


def record(group, k) -> Record:
    made = response(f"demo-{group}-{k}", "So \\boxed{1}", correct=None)
    return replace(made, trajectory=replace(made.trajectory, group_id=f"demo-{group}"))


def sampled(shards, *records, pause_s=0.0):
    async def run():
        for one in records:
            shards.add(one, Letters())
            await asyncio.sleep(pause_s)
        await shards.settle()

    asyncio.run(run())


def stored(shards):
    return sorted(record.trajectory.trajectory_id for record in shards.stored())


def test_whole_groups_are_stored_and_come_back_equal(campaign):
    a0, a1, b0 = record("a", 0), record("a", 1), record("b", 0)
    sampled(shards_of(campaign), b0, a0, a1)
    assert shards_of(campaign).stored() == [a0, a1]


def test_a_rollout_quicker_than_the_interval_stores_nothing(campaign):
    sampled(shards_of(campaign, every_s=60), record("a", 0), record("a", 1))
    assert campaign.store.list("staging") == []


def test_a_failed_one_stores_what_is_whole_at_once(campaign):
    shards = shards_of(campaign, every_s=60)
    sampled(shards, record("a", 0), record("b", 0), record("b", 1))
    shards.rescue(Letters())
    assert stored(shards_of(campaign)) == ["demo-b-0", "demo-b-1"]


def test_several_shards_are_read_together_and_none_twice(campaign):
    records = [record(group, k) for group in "abcd" for k in (0, 1)]
    sampled(shards_of(campaign), *records, pause_s=0.05)
    assert len(campaign.store.list("staging")) > 1
    assert stored(shards_of(campaign)) == [one.trajectory.trajectory_id for one in records]


def test_those_of_other_inputs_do_not_count(campaign):
    sampled(shards_of(campaign), record("a", 0), record("a", 1))
    assert stored(shards_of(campaign, policy=replace(BASE, digest="c" * 64))) == []
    assert stored(shards_of(campaign, problems=replace(PROBLEMS, digest="e" * 64))) == []
    assert stored(shards_of(campaign, seed=1)) == []
    engine = campaign.recorded_config().engine.model_copy(update={"backend": "transformers"})
    assert stored(shards_of(campaign, engine=engine)) == [], "rows of two engines do not make one step"
    assert stored(shards_of(campaign, step=2)) == []
    assert stored(shards_of(campaign, every_s=7)) == ["demo-a-0", "demo-a-1"], "the pace decides nothing"


def test_a_damaged_one_is_put_aside_and_the_others_count(campaign, capsys):
    sampled(shards_of(campaign), record("a", 0), record("a", 1))
    (damaged,) = campaign.store.list("staging")
    sampled(shards_of(campaign), record("b", 0), record("b", 1))
    campaign.store.write(damaged, b"rotten")
    assert stored(shards_of(campaign)) == ["demo-b-0", "demo-b-1"]
    assert "sampled again" in capsys.readouterr().err
    (aside,) = campaign.store.list("quarantine")
    assert campaign.store.read(aside) == b"rotten"


def test_a_store_that_cannot_be_written_is_an_error_of_the_rollout(campaign, monkeypatch):
    def refuse(*_):
        raise StoreError("the disk is full", "There must be room", "Free some")

    monkeypatch.setattr(campaign, "put_shard", refuse)
    with pytest.raises(StoreError, match="disk is full"):
        sampled(shards_of(campaign), record("a", 0), record("a", 1))


def test_the_commit_removes_them(campaign, tmp_path):
    sampled(shards_of(campaign), record("a", 0), record("a", 1))
    run_step(campaign, 1, tmp_path)
    assert campaign.store.list("staging") == []
