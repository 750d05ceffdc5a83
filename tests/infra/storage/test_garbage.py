"""What crashes leave is found and removed; what somebody needs, holds or put there himself is not touched."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from infra.storage import Store
from infra.storage.copying import copy
from infra.storage.copying import plan as to_copy
from infra.storage.garbage import RESULTS, collect, find
from infra.storage.store import REMOVED
from infra.storage.verification import plan, verify
from tests.infra.storage.campaign_kit import checkpoint, rows, run_evaluation, run_step, start

ROOT = Path(__file__).parents[3]
ANY_AGE = timedelta(seconds=-1)
"""S3 tells when an object was written in whole seconds, and when an upload began in parts of them."""


def reasons(found):
    return {one.key: one.why for one in found.garbage}


def everything(store):
    return store.list("") + [entry.key for entry in store.entries(temporary=True)]


def test_what_crashes_left_is_found_and_removed_and_nothing_else(store, tmp_path):
    campaign = start(store)
    one = run_step(campaign, 1, tmp_path)
    run_evaluation(campaign, 1, one.policy_out)
    store.write("rejected/0123456789abcdef.jsonl", b"{}")
    store.write("report.html", b"<html>")
    store.write("notes/todo.txt", b"mine")
    store.write("trajectories/campaign=demo/step=000001/todo.txt", b"mine")
    kept = [key for key in everything(store) if "/lease/" not in key]

    lost = campaign.put_trajectories(1, rows("lost"))
    staging = campaign.put_staging(1, rows("staged"))
    evaluation = campaign.put_evaluation(1, "toy", "e" * 16, rows("half"))
    checkpoint(campaign, 2, tmp_path)
    ungraded = campaign.put_trajectories(2, rows("two"))
    store.write(".probe-0123", b"torl")
    store.write("problems/.torl-tmp-0123", b"half a tab")
    store.write(".torl-tmp-4567/policy/model.safetensors", b"half")
    expected = {
        lost.key: "no manifest names it",
        staging.key: "staging of a committed step",
        evaluation.key: "no manifest names it",
        "checkpoints/demo/step=000002/policy": "of an unfinished step, and no finished task gave it out",
        "checkpoints/demo/step=000002/optimizer": "of an unfinished step, and no finished task gave it out",
        ungraded.key: "of an unfinished step, and no finished task gave it out",
        ".probe-0123": "temporary",
        "problems/.torl-tmp-0123": "temporary",
        ".torl-tmp-4567": "temporary",
    }

    before = everything(store)
    found = find(store, timedelta(hours=1))
    assert (found.garbage, {g.key for g in found.young}) == ([], expected.keys()), "too young to be judged"
    found = find(store, ANY_AGE)
    assert reasons(found) == expected
    assert {g.key: g.bytes for g in found.garbage}[".torl-tmp-4567"] == 4
    assert found.unknown == ["notes/todo.txt", "trajectories/campaign=demo/step=000001/todo.txt"]
    assert everything(store) == before, "looking changes nothing"

    removed = []
    collect(store, ANY_AGE, lambda one: removed.append(one.key))
    assert sorted(removed) == sorted(expected)
    assert [key for key in everything(store) if "/lease/" not in key] == kept
    assert list(verify(store, plan(store))) == [None] * 5
    assert find(store, ANY_AGE).garbage == []


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_what_an_unfinished_step_resumes_from_is_kept(store, tmp_path):
    campaign = start(store)
    run_step(campaign, 1, tmp_path)
    staged = campaign.put_staging(2, rows("two"))
    graded = campaign.put_trajectories(2, rows("two"))
    other_try = campaign.put_trajectories(2, rows("again"))
    policy, optimizer = checkpoint(campaign, 2, tmp_path)
    store.write(f"{RESULTS}/demo-reward-01", f'{{"result": "{{\\"key\\": \\"{graded.key}\\"}}"}}'.encode())
    names = f'{{"result": "{{\\"uri\\": \\"{policy.weights_uri}\\", \\"key\\": \\"{optimizer.key}\\"}}"}}'
    store.write(f"{RESULTS}/demo-train-02", names.encode())
    found = collect(store, ANY_AGE)
    assert [one.key for one in found.garbage] == [other_try.key]
    assert sorted(found.resumable) == sorted([staged.key, graded.key, policy.weights_uri, optimizer.key])
    assert store.exists(staged.key)
    assert store.exists(f"{policy.weights_uri}/config.json")


@pytest.mark.parametrize("store_uri", ["folder", "ceph"], indirect=True)
def test_a_campaign_that_a_living_run_holds_is_left_alone(store, tmp_path):
    busy, idle = start(store, "busy"), start(store, "idle")
    for campaign in (busy, idle):
        checkpoint(campaign, 1, tmp_path)
    store.write(".torl-tmp-89ab/x", b"whose?")
    with busy.hold("bold-otter"):
        found = collect(store, ANY_AGE)
    assert {one.campaign for one in found.garbage} == {"idle"}
    assert list(found.spared) == ["busy"]
    assert "bold-otter" in found.spared["busy"]
    assert store.list("checkpoints/idle") == []
    assert len(store.list("checkpoints/busy")) == 3
    assert store.entries(temporary=True), "it may be the living run's"
    assert len(collect(store, ANY_AGE).garbage) == 3
    assert (store.list("checkpoints"), list(store.entries(temporary=True))) == ([], [])


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_a_campaign_whose_manifests_cannot_be_read_is_left_alone(store, tmp_path):
    campaign = start(store)
    run_step(campaign, 1, tmp_path)
    store.write(campaign.manifest_key(1), b"{")
    before = everything(store)
    found = collect(store, ANY_AGE)
    assert found.garbage == []
    assert "is not JSON" in found.spared["demo"]
    assert everything(store) == before


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_what_was_left_of_a_removed_checkpoint_goes_and_its_note_stays(store, tmp_path):
    folder = run_step(start(store), 1, tmp_path).policy_out.weights_uri
    store.write_json(f"{folder}/{REMOVED}", {"at": "now", "kept": "the last 1"})
    assert {one.key for one in collect(store, ANY_AGE).garbage} == {
        f"{folder}/config.json", f"{folder}/model.safetensors",
    }  # fmt: skip
    assert store.list(folder) == [f"{folder}/{REMOVED}"]


@pytest.mark.parametrize("store_uri", ["moto", "ceph"], indirect=True)
def test_unfinished_uploads_are_found_and_aborted(store, tmp_path):
    run_step(start(store), 1, tmp_path)
    bucket = store.path("x").split("/")[0]
    for key in ("checkpoints/demo/step=000002/policy/model.safetensors", "elsewhere/x.bin"):
        name = store.path(key).removeprefix(f"{bucket}/")
        upload = store.fs.call_s3("create_multipart_upload", Bucket=bucket, Key=name)["UploadId"]
        store.fs.call_s3("upload_part", Bucket=bucket, Key=name, UploadId=upload, PartNumber=1, Body=b"half")
    found = find(store, ANY_AGE)
    assert reasons(found) == {"checkpoints/demo/step=000002/policy/model.safetensors": "unfinished upload"}
    assert found.unknown == ["elsewhere/x.bin (unfinished upload)"]
    collect(store, ANY_AGE)
    assert [key for key, _, _ in store.unfinished_uploads()] == ["elsewhere/x.bin"]
    assert store.list("elsewhere") == []


def test_a_killed_writer_leaves_garbage_that_goes(tmp_path):
    """Whenever it is killed, what it was writing is found, and what it had committed stays."""
    program = (
        "import sys; from pathlib import Path\n"
        "from infra.storage import Store\n"
        "from tests.infra.storage.campaign_kit import start, run_step\n"
        "campaign, folder = start(Store.open(sys.argv[1])), Path(sys.argv[2])\n"
        "with campaign.hold('killed'):\n"
        "    for step in range(campaign.last_step() + 1, 10**6):\n"
        "        run_step(campaign, step, folder); print(step, flush=True)"
    )
    store = Store.open(tmp_path / "store")
    for pause_s in (0.0, 0.004, 0.009, 0.013):
        child = subprocess.Popen(
            [sys.executable, "-c", program, store.uri, str(tmp_path / "scratch")],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        child.stdout.readline()
        time.sleep(pause_s)
        child.kill()
        child.wait()
        child.stdout.close()
        found = collect(store, ANY_AGE)
        assert (found.unknown, found.spared) == ([], {})
        planned = plan(store)
        assert set(verify(store, planned)) == {None}
        unnamed = [key for key in everything(store) if not key.startswith("campaigns/") and not _is_named(key, planned)]
        assert [key for key in unnamed if not key.startswith("staging/")] == []
        assert all(key in found.resumable for key in unnamed)


def _is_named(key, planned):
    return any(key == named.key or key.startswith(f"{named.key}/") for named in planned.objects)


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_what_a_fork_started_from_is_kept_verified_and_copied(store, tmp_path):
    digests = {}
    for part in ("policy", "optimizer"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "w.bin").write_bytes(part.encode())
        digests[part] = store.put_folder(tmp_path / part, f"checkpoints/demo/step=000000/{part}")
    start(store, fork={"store": "elsewhere", "step": 3, "campaign": "source", **digests})
    assert collect(store, ANY_AGE).garbage == []
    assert list(verify(store, plan(store))) == [None, None]
    target = Store.open(tmp_path / "copy")
    assert copy(to_copy(store, target), target).objects == 2
    assert target.list("checkpoints") == store.list("checkpoints")
    store.write("checkpoints/demo/step=000000/optimizer/w.bin", b"other")
    assert [damage.key for damage in verify(store, plan(store)) if damage] == ["checkpoints/demo/step=000000/optimizer"]
