"""Listing a store, and reading it back: what is whole passes, whatever is damaged is named."""

import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pytest

from infra.storage import StepManifest, Store
from infra.storage.listing import CampaignLine, EvaluationLine, StepLine, lines
from infra.storage.store import REMOVED
from infra.storage.verification import plan, verify
from tests.infra.storage.campaign_kit import BASE, run_evaluation, run_step, start
from torl_core.errors import ConfigError, StoreError


@pytest.fixture
def campaign(store, tmp_path):
    """Two steps and an evaluation of the second policy."""
    campaign = start(store)
    run_step(campaign, 1, tmp_path, accuracy=0.25)
    second = run_step(campaign, 2, tmp_path, count=3)
    run_evaluation(campaign, 2, second.policy_out, accuracy=0.5)
    return campaign


def damages(store, name=None):
    planned = plan(store, name)
    return {d.key: d for d in [*planned.damaged, *verify(store, planned)] if d}


def test_a_listing_has_a_line_per_campaign_step_and_evaluation(store, campaign):
    start(store, "other")
    one, two, evaluation = campaign.manifest(1), campaign.manifest(2), campaign.evaluations()[0]
    # policy: 2 + 14 * 100 bytes, optimizer: 9 * 100
    expected = [
        CampaignLine("demo", 2, 5, one.trajectories[0].bytes + two.trajectories[0].bytes, 2, 4604, 1, None, ("1",)),
        StepLine(
            "demo", 1, 2, one.trajectories[0].bytes, one.policy_out.digest, "stored", 2302, {"accuracy": 0.25},
            one.created_at, "1",
        ),
        StepLine(
            "demo", 2, 3, two.trajectories[0].bytes, two.policy_out.digest, "stored", 2302, {}, two.created_at, "1",
        ),
        EvaluationLine(
            "demo", 2, "toy", 0.0, 2, evaluation.trajectories[0].bytes, two.policy_out.digest, {"accuracy": 0.5},
            evaluation.created_at, 1, 1, evaluation.problems.digest, evaluation.identity, "1",
        ),
        CampaignLine("other", 0, 0, 0, 0, 0, 0, None, ()),
    ]  # fmt: skip
    assert list(lines(store)) == expected


def test_a_listing_says_who_holds_a_campaign_and_which_checkpoints_are_gone(store, campaign):
    store.delete("checkpoints/demo/step=000001")
    with campaign.hold("bold-otter"):
        first, step, *_ = lines(store)
    assert first.held_by.startswith("flow run bold-otter (process ")
    assert (first.checkpoints, step.checkpoint, step.checkpoint_bytes) == (1, "missing", 0)
    assert next(lines(store)).held_by is None


def test_a_whole_store_passes_and_every_byte_of_it_is_read(store, campaign):
    planned = plan(store, campaign.name)
    read = []
    assert list(verify(store, planned, read.append)) == [None] * 8
    assert sum(read) == planned.bytes
    assert sorted(named.kind for named in planned.objects) == sorted(
        ["trajectories", "policy", "optimizer"] * 2 + ["problems", "evaluation"]
    )


def test_every_kind_of_damage_is_found_and_nothing_else(store, campaign):
    two = campaign.manifest(2)
    rows, problems = campaign.manifest(1).trajectories[0].key, two.problems.key
    data = store.read(rows)
    store.write(rows, data[:50] + bytes([data[50] ^ 1]) + data[51:])  # one bit
    store.delete(problems)
    store.write("checkpoints/demo/step=000001/policy/stray.txt", b"")
    store.delete("checkpoints/demo/step=000002/policy/config.json")
    store.write(f"{two.optimizer.key}/rank0/moments.safetensors", b"moments 2" * 99)
    found = damages(store)
    assert {key: damage.what.split(",")[0][:14] for key, damage in found.items()} == {
        rows: "its digest is ",
        problems: "it is not ther",
        "checkpoints/demo/step=000001/policy": "its digest is ",
        "checkpoints/demo/step=000002/policy": "its digest is ",
        two.optimizer.key: "its digest is ",
    }
    assert "--fork" in found[two.optimizer.key].remedy
    assert found[rows].remedy == (
        "Move what is left of it out of the store and restore it from a copy (`torl store cp`)"
    )
    assert all("elete" not in damage.remedy for damage in found.values())


def test_a_row_count_that_is_not_the_tables_is_found(store, campaign):
    ref = campaign.put_trajectories(3, pa.table({"x": [1, 2, 3]}))
    wrong, last = replace(ref, rows=4), campaign.manifest(2).policy_out
    campaign.commit_step(StepManifest("demo", 3, (wrong,), last, replace(last, version=3), None, "abcabcabcabc"))
    assert {key: damage.what for key, damage in damages(store).items()} == {ref.key: "it has 3 rows, recorded were 4"}


def test_a_damaged_manifest_is_named_and_the_others_are_read(store, campaign):
    store.write(campaign.manifest_key(1), b'{"schema_version": 1')
    store.delete(campaign.manifest(2).trajectories[0].key)
    found = damages(store)
    assert set(found) == {campaign.manifest_key(1), campaign.manifest(2).trajectories[0].key}
    assert "is not JSON" in found[campaign.manifest_key(1)].what


def test_what_retention_removed_is_not_damage(store, campaign, tmp_path):
    elsewhere = Store(store.fs, store.root, store.uri, tmp_path / "another cache")
    store.delete("checkpoints/demo/step=000001/policy")
    store.write_json(f"checkpoints/demo/step=000001/policy/{REMOVED}", {"at": "now", "kept": "the last 1"})
    assert damages(store) == {}
    assert [line.checkpoint for line in lines(store) if isinstance(line, StepLine)] == ["removed", "stored"]
    with pytest.raises(StoreError, match=r"was removed by retention at now\. The campaign keeps .* the last 1;"):
        elsewhere.fetch_folder("checkpoints/demo/step=000001/policy", campaign.manifest(1).policy_out.digest)
    with pytest.raises(StoreError, match="was removed by retention"):
        store.fetch_folder(store.uri_of("checkpoints/demo/step=000001/policy"))


@pytest.mark.usefixtures("campaign")
def test_one_campaign_is_read_without_the_others(store, tmp_path):
    other = start(store, "other")
    store.delete(run_step(other, 1, tmp_path).trajectories[0].key)
    assert damages(store, "demo") == {}
    assert len(damages(store)) == 1
    with pytest.raises(ConfigError, match=r"has no campaign 'third'.*Choose one of: demo, other"):
        plan(store, "third")


def test_a_store_that_fails_is_not_called_damaged(tmp_path):
    store = Store.open(tmp_path / "s")
    campaign = start(store)
    ref = run_step(campaign, 1, tmp_path).trajectories[0]
    planned = plan(store)
    place = tmp_path / "s" / ref.key
    place.unlink()
    place.mkdir()  # reading it fails, for root too
    with pytest.raises(StoreError, match=f"cannot read .*{ref.key}"):
        list(verify(store, planned))


def test_memory_does_not_grow_with_the_objects(tmp_path):
    store = Store.open(tmp_path / "s")
    (tmp_path / "big" / "policy").mkdir(parents=True)
    (tmp_path / "big" / "optimizer").mkdir()
    for path in ("policy/model.safetensors", "optimizer/state.bin"):
        with (tmp_path / "big" / path).open("wb") as file:
            file.truncate(64 << 20)
    campaign = start(store)
    policy, optimizer = campaign.stage_checkpoint(1, tmp_path / "big", BASE.digest)
    campaign.upload_checkpoint(policy, optimizer)
    campaign.commit_step(StepManifest("demo", 1, (), BASE, policy, optimizer, "abcabcabcabc"))
    planned = plan(store)
    tracemalloc.start()
    try:
        assert list(verify(store, planned)) == [None, None]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert planned.bytes == 128 << 20
    assert peak < 48 << 20
