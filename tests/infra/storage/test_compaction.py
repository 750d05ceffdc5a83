"""Fewer files, the same rows in the same order, for readers before, during and after."""

import dataclasses
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.analytics import ask, query
from infra.storage import CampaignStore, Ref, StepManifest, Store, get_table
from infra.storage.compaction import Compacted, compact, grouped
from infra.storage.copying import copy, plan
from infra.storage.garbage import collect, find
from infra.storage.verification import plan as to_verify
from infra.storage.verification import verify
from tests.infra.storage.campaign_kit import BASE, checkpoint, rows, start
from torl_core.errors import StoreError

ROWS = "FROM raw.step_rows"  # as the files hold them; the view over it joins, which has no order of its own
VIEW = "FROM trajectories ORDER BY trajectory_id"
ANY_AGE = timedelta(seconds=-1)
"""S3 tells when an object was written in whole seconds, and when an upload began in parts of them."""


def sharded(store, tmp_path, shards=(3, 1, 2)):
    """Step 1 in several files, step 2 in one."""
    campaign, parent = start(store), BASE
    for step, sizes in ((1, shards), (2, (2,))):
        refs = [campaign.put_trajectories(step, rows(f"demo-{step}-{i}", n)) for i, n in enumerate(sizes)]
        policy, optimizer = checkpoint(campaign, step, tmp_path)
        campaign.commit_step(StepManifest("demo", step, tuple(refs), parent, policy, optimizer, "abcabcabcabc"))
        parent = policy
    return campaign


def merged(campaign):
    with campaign.hold("compact"):
        return list(compact(campaign))


@pytest.mark.parametrize("store_uri", ["folder", "memory", "moto", "ceph"], indirect=True)
def test_readers_see_the_same_rows_before_during_and_after(store, tmp_path):
    campaign = sharded(store, tmp_path)
    before, small = campaign.steps(), campaign.manifest(1).trajectories

    def old_reader(connection):
        expected, view = (connection.sql(query).to_arrow_table() for query in (ROWS, VIEW))
        assert merged(campaign) == [Compacted(1, 3, 1)]
        assert connection.sql(ROWS).to_arrow_table().equals(expected), "who looked before goes on"
        assert expected.num_rows == 8
        return expected, view

    expected, view = ask(store, old_reader)
    assert find(store, timedelta(hours=1)).garbage == [], "and is given time"
    assert query(store, ROWS).equals(expected)
    assert query(store, VIEW).equals(view)

    after = campaign.steps()
    assert [dataclasses.replace(m, trajectories=()) for m in after] == [
        dataclasses.replace(m, trajectories=()) for m in before
    ]
    assert (len(after[0].trajectories), after[0].trajectories[0].rows, after[1]) == (1, 6, before[1])
    assert campaign.manifest(1) == after[0]
    assert get_table(store, after[0].trajectories[0]).column("trajectory_id").to_pylist() == [
        "demo-1-0-0", "demo-1-0-1", "demo-1-0-2", "demo-1-1-0", "demo-1-2-0", "demo-1-2-1",
    ]  # fmt: skip

    removed = collect(store, ANY_AGE)
    assert {one.key: one.why for one in removed.garbage} == {
        ref.key: "its rows are in a compacted file" for ref in small
    }
    assert query(store, ROWS).equals(expected)
    assert set(verify(store, to_verify(store))) == {None}
    assert merged(campaign) == [], "once"


@pytest.fixture
def folder(tmp_path):
    return Store.open(tmp_path / "store")


def test_a_merged_file_that_was_never_committed_is_garbage_and_nothing_changed(folder, tmp_path, monkeypatch):
    campaign = sharded(folder, tmp_path)
    before = campaign.steps()
    monkeypatch.setattr(CampaignStore, "commit_compaction", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merged(campaign)
    monkeypatch.undo()
    assert campaign.steps() == before
    (garbage,) = collect(folder, ANY_AGE).garbage
    assert garbage.why == "no manifest names it"
    assert merged(campaign) == [Compacted(1, 3, 1)]


def test_the_small_files_stay_where_the_merged_one_is_lost(folder, tmp_path):
    campaign = sharded(folder, tmp_path)
    small = campaign.manifest(1).trajectories
    merged(campaign)
    lost = campaign.manifest(1).trajectories[0].key
    folder.delete(lost)
    assert [d.key for d in verify(folder, to_verify(folder)) if d] == [lost]
    assert collect(folder, ANY_AGE).garbage == []
    folder.delete(campaign.compaction_key(1))
    assert campaign.manifest(1).trajectories == small
    assert set(verify(folder, to_verify(folder))) == {None}


def test_committing_a_compacted_step_again_keeps_its_rows(folder, tmp_path):
    campaign = sharded(folder, tmp_path)
    manifest = campaign.manifest(1)
    merged(campaign)
    campaign.commit_step(manifest)
    assert set(verify(folder, to_verify(folder))) == {None}
    assert campaign.manifest(1).trajectories[0].rows == 6


def test_a_compaction_of_something_else_is_refused(folder, tmp_path):
    campaign = sharded(folder, tmp_path)
    merged(campaign)
    folder.write_json(campaign.compaction_key(2), folder.read_json(campaign.compaction_key(1)) | {"step": 2})
    with pytest.raises(StoreError, match=r"000002/compacted.json replaces other files"):
        campaign.manifest(2)


def test_a_copy_is_compacted_as_the_original(folder, tmp_path):
    campaign = sharded(folder, tmp_path)
    early, late = Store.open(tmp_path / "early"), Store.open(tmp_path / "late")
    copy(plan(folder, early), early)
    merged(campaign)
    collect(folder, ANY_AGE)
    for target in (early, late):
        copy(plan(folder, target), target)
        assert CampaignStore(target, "demo").steps() == campaign.steps()
        assert set(verify(target, to_verify(target))) == {None}
    assert len(collect(early, ANY_AGE).garbage) == 3
    assert late.list("trajectories") == folder.list("trajectories")


def test_files_of_different_schemas_are_left_alone(folder, tmp_path):
    campaign = sharded(folder, tmp_path, shards=())
    table = rows("demo-3", 2)
    refs = [campaign.put_trajectories(3, t) for t in (table, table.drop_columns(["advantage"]))]
    last = campaign.manifest(2)
    campaign.commit_step(StepManifest("demo", 3, tuple(refs), last.policy_out, last.policy_out, None, "abcabcabcabc"))
    with pytest.raises(StoreError, match="have different schemas"):
        merged(campaign)
    assert campaign.manifest(3).trajectories == tuple(refs)


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_only_neighbours_that_fit_are_grouped(sizes, limit):
    refs = [Ref(f"k{i}", "d", 1, size) for i, size in enumerate(sizes)]
    groups = grouped(refs, limit)
    assert [ref for group in groups for ref in group] == refs
    assert all(len(group) == 1 or sum(ref.bytes for ref in group) <= limit for group in groups)
    for left, right in pairwise(groups):
        assert sum(ref.bytes for ref in left) + right[0].bytes > limit, "or they would be one"
