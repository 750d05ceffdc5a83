"""A copy is equal, verified on its way, goes on where it stopped, and never writes over anything."""

import pytest

from infra.storage import CampaignStore, Store
from infra.storage.copying import copy, plan
from infra.storage.retention import Retention
from infra.storage.store import REMOVED
from infra.storage.verification import plan as to_verify
from infra.storage.verification import verify
from tests.infra.analytics.stored_kit import config
from tests.infra.storage.campaign_kit import run_evaluation, run_step, start
from torl_core.errors import ConfigError, StoreError


def contents(store):
    return {key: store.read(key) for key in store.list("") if "/lease/" not in key}


def build(store, tmp_path, name="demo"):
    campaign = start(store, name)
    run_step(campaign, 1, tmp_path, accuracy=0.25)
    second = run_step(campaign, 2, tmp_path)
    run_evaluation(campaign, 2, second.policy_out, accuracy=0.5)
    return campaign


def run(source, target, name=None):
    copied = copy(plan(source, target, name), target)
    return copied.objects, copied.skipped


@pytest.fixture
def folder(tmp_path):
    return Store.open(tmp_path / "other")


@pytest.fixture
def source(tmp_path):
    """A folder; for what does not depend on the kind of store."""
    return Store.open(tmp_path / "source", cache=tmp_path / "cache")


def test_there_and_back_is_the_same_store(store, folder, tmp_path):
    build(folder, tmp_path)
    start(folder, "empty")
    folder.write("prefect-results/demo-train-01", b"{}")
    folder.write("staging/campaign=demo/step=000003/part-0123.parquet", b"rows")
    expected = {key: data for key, data in contents(folder).items() if not key.startswith(("prefect", "staging"))}
    seen = []
    planned = plan(folder, store)
    assert copy(planned, store, seen.append).objects == 8
    assert sum(seen) == planned.bytes
    assert contents(store) == expected
    assert set(verify(store, to_verify(store))) == {None}
    assert CampaignStore(store, "demo").holder() is None

    back = Store.open(tmp_path / "back")
    assert run(store, back) == (8, 0)
    assert contents(back) == expected
    assert run(store, back) == (0, 8)


@pytest.mark.parametrize("store_uri", ["folder", "memory", "moto", "ceph"], indirect=True)
def test_objects_in_pieces_appear_whole_or_not_at_all(store):
    pieces = [bytes([65 + i]) * (7 << 20) for i in range(6)]  # several parts on S3, the last one short
    for number, data in (("none", []), ("one", pieces[:1]), ("many", pieces)):
        digest = store.put_chunks(f"x/{number}", iter(data))
        assert store.read(f"x/{number}") == b"".join(data)
        with pytest.raises(StoreError, match="has digest"):
            store.put_chunks(f"y/{number}", iter(data), digest[::-1])

    def breaks():
        yield from pieces[:4]
        raise OSError("the source went away")

    with pytest.raises(StoreError, match=r"cannot write .*y/broken .*the source went away"):
        store.put_chunks("y/broken", breaks())
    assert store.list("y") == []
    assert not store.entries(temporary=True)
    if store.is_s3:
        assert list(store.unfinished_uploads()) == []


def test_a_reader_of_the_copy_sees_whole_steps_only_and_the_copy_goes_on(source, tmp_path, monkeypatch):
    build(source, tmp_path)
    whole, put_chunks, write_once = contents(source), Store.put_chunks, Store.write_once
    for allowed in range(14):  # 3 tables, the problems, 2 x 3 files of checkpoints, 3 manifests: 13 writes
        left = [allowed]

        def cut(write, left=left):
            def write_or_fail(*arguments):
                if left[0] == 0:
                    raise OSError("power cut")
                left[0] -= 1
                return write(*arguments)

            return write_or_fail

        monkeypatch.setattr(Store, "put_chunks", cut(put_chunks))
        monkeypatch.setattr(Store, "write_once", cut(write_once))
        target = Store.open(tmp_path / f"target-{allowed}")
        try:
            run(source, target)
            stopped = False
        except OSError:
            stopped = True
        monkeypatch.undo()
        assert stopped == (allowed < 13)
        assert len(CampaignStore(target, "demo").steps()) == min(2, max(0, allowed - 10))
        if CampaignStore(target, "demo").steps():
            assert set(verify(target, to_verify(target))) == {None}
        run(source, target)
        assert contents(target) == whole


def test_only_the_chosen_campaign_goes(source, folder, tmp_path):
    build(source, tmp_path, "a")
    build(source, tmp_path, "b")
    run(source, folder, "b")
    assert {key.split("/")[1] for key in folder.list("campaigns")} == {"b"}
    assert folder.list("checkpoints/a") == []
    assert len(folder.list("problems")) == 1


def test_a_copy_that_is_behind_catches_up(source, folder, tmp_path):
    campaign = build(source, tmp_path)
    run(source, folder)
    run_step(campaign, 3, tmp_path)
    campaign.save_config(config("demo").model_copy(update={"steps": 9}))
    assert run(source, folder) == (3, 8)
    assert CampaignStore(folder, "demo").last_step() == 3
    assert run(folder, source) == (0, 11)


def test_other_content_is_refused_before_anything_is_written(source, folder, tmp_path):
    build(source, tmp_path)
    other = start(folder)
    run_step(other, 1, tmp_path, accuracy=0.75)
    before = contents(folder)
    with pytest.raises(StoreError, match=r"steps/000001/manifest.json exists with other content"):
        run(source, folder)
    assert contents(folder) == before
    start(Store.open(tmp_path / "third"), seed=7)
    with pytest.raises(StoreError, match="was started with other settings"):
        run(source, Store.open(tmp_path / "third"))
    with pytest.raises(ConfigError, match="both stores are"):
        run(source, source)


def test_a_different_file_in_the_way_is_refused_and_left(source, tmp_path):
    campaign = build(source, tmp_path)
    place = f"{campaign.manifest(1).policy_out.weights_uri}/config.json"
    for key, data in ((place, b"[]"), (f"{place}.bak", b"{}"), (campaign.manifest(2).trajectories[0].key, b"x")):
        target = Store.open(tmp_path / key.replace("/", "-"))
        target.write(key, data)
        with pytest.raises(StoreError, match=f"{key} exists with other content"):
            run(source, target)
        assert target.read(key) == data
        assert CampaignStore(target, "demo").steps() == []


def test_damage_at_the_source_is_not_copied(source, folder, tmp_path):
    campaign = build(source, tmp_path)
    key = campaign.manifest(1).policy_out.weights_uri
    source.write(f"{key}/config.json", b"[]")
    with pytest.raises(StoreError, match=f"{key} has digest .*torl store verify"):
        run(source, folder)
    assert folder.list(key) == []
    assert folder.list("campaigns/demo/steps") == []
    source.delete(key)
    with pytest.raises(StoreError, match=f"{key} is not there"):
        run(source, folder)


def test_what_retention_removed_stays_removed_on_both_sides(source, folder, tmp_path):
    campaign = build(source, tmp_path)
    run(source, folder)
    Retention(campaign, config("demo", retention={"last": 1}), {}).apply(2)
    place = campaign.manifest(1).policy_out.weights_uri
    third = Store.open(tmp_path / "third")
    assert run(source, third) == (6, 2)
    assert third.list(place) == [f"{place}/{REMOVED}"]
    assert run(folder, third) == (0, 8)
    assert run(source, folder) == (0, 8)
    assert folder.exists(f"{place}/config.json"), "a copy with more is left as it is"


def test_a_campaign_that_runs_in_the_target_is_not_written_to(source, folder, tmp_path):
    build(source, tmp_path)
    with start(folder).hold("bold-otter"), pytest.raises(StoreError, match="is held by flow run bold-otter"):
        run(source, folder)
    assert folder.list("checkpoints") == []
