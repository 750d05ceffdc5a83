import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from infra.storage import CampaignStore, Store, lease
from infra.storage.lease import Holder
from tests.infra.storage.test_campaign import manifest
from torl_core.errors import StoreError

FOLDER = "campaigns/demo/lease"


@pytest.fixture(autouse=True)
def settle_quickly(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 0.05)


def test_the_second_run_is_told_who_holds_it_and_how_to_take_over(store):
    with CampaignStore(store, "demo").hold("flow-1"), pytest.raises(StoreError) as caught:
        lease.take(store, FOLDER, "flow-2")
    assert "held by flow run flow-1 (process " in str(caught.value)
    assert "expires in" in str(caught.value)
    assert f"delete {store.uri_of(FOLDER)}/00000001.json" in str(caught.value)


def test_a_released_lease_is_free_and_epochs_only_grow(store):
    for epoch in (1, 2, 3):
        with CampaignStore(store, "demo").hold("flow") as held:
            assert held.epoch == epoch
    assert store.list(FOLDER) == [f"{FOLDER}/00000003.json"]


def test_a_writer_that_was_taken_over_commits_nothing(store):
    campaign = CampaignStore(store, "demo")
    with campaign.hold("slept"):
        store.write_json(f"{FOLDER}/00000002.json", asdict(Holder.this_process("woke")))
        with pytest.raises(StoreError, match="taken over by flow run woke"):
            campaign.commit_step(manifest(1))
        assert campaign.manifest(1) is None
    assert store.read_json(f"{FOLDER}/00000002.json")["released"] is False


def test_an_expired_lease_of_another_machine_is_taken_over(store, monkeypatch):
    lost = dataclasses.replace(Holder.this_process("lost"), machine="another", host="gone")
    store.write_json(f"{FOLDER}/00000007.json", asdict(lost))
    with pytest.raises(StoreError, match=r"flow run lost \(process \d+ on gone\)"):
        lease.take(store, FOLDER, "next")
    monkeypatch.setattr(lease, "TTL_S", -5.0)  # servers give whole seconds
    assert lease.take(store, FOLDER, "next").epoch == 8


def test_a_killed_holder_on_this_machine_is_taken_over_at_once(tmp_path):
    program = (
        "import os, signal, sys; from infra.storage import Store, lease\n"
        f"lease.take(Store.open(sys.argv[1]), {FOLDER!r}, 'killed'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert lease.take(Store.open(tmp_path), FOLDER, "next").epoch == 2


def test_of_several_at_the_same_moment_one_creates(store):
    if not store.creates_atomically:
        pytest.skip("this store has no conditional put")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("x", b"%d" % i), range(8)))
    assert won.count(True) == 1
    assert store.read("x") == b"%d" % won.index(True)
