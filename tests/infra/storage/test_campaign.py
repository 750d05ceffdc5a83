import dataclasses

import pyarrow as pa
import pytest

from infra.storage import CampaignStore, EvaluationManifest, Ref, StepManifest, Store, campaigns, get_table, versions
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError, DamagedError, StoreError
from torl_core.types import Policy

BASE = Policy(0, "/models/base", "b" * 64)


@pytest.fixture
def campaign(store):
    return CampaignStore(store, "demo")


def config(**changes):
    values = {"name": "demo", "store": "s", "steps": 3, "model": {"path": "m"}, "problems": {"location": "p.jsonl"}}
    return CampaignConfig.model_validate(values | changes)


def manifest(step, refs=(), **changes):
    made = Policy(step, f"checkpoints/demo/step={step:06d}/policy", "c" * 64, BASE.digest)
    fields = {"campaign": "demo", "step": step, "trajectories": tuple(refs), "policy_in": BASE, "policy_out": made}
    return StepManifest(**(fields | {"optimizer": Ref("o", "d" * 64), "config_digest": "abc"} | changes))


def test_a_step_is_done_exactly_when_its_manifest_exists(campaign):
    assert (campaign.last_step(), campaign.steps(), campaign.manifest(1)) == (0, [], None)
    written = manifest(1, metrics={"loss": 0.5}, phases_s={"rollout": 2.0}, state={"cursor": [3, 4]})
    campaign.commit_step(written)
    assert campaign.manifest(1) == written
    assert campaign.steps() == [written]
    assert campaign.last_step() == 1
    assert campaign.store.list("campaigns") == ["campaigns/demo/steps/000001/manifest.json"]


def test_committing_again_is_harmless_and_committing_otherwise_refused(campaign):
    written = manifest(1)
    campaign.commit_step(written)
    campaign.commit_step(written)
    with pytest.raises(StoreError, match="other content"):
        campaign.commit_step(dataclasses.replace(written, metrics={"loss": 1.0}))
    assert campaign.manifest(1) == written


def test_commit_removes_what_unfinished_attempts_left(campaign):
    lost = campaign.put_trajectories(1, pa.table({"x": [0]}))
    kept = campaign.put_trajectories(1, pa.table({"x": [1, 2]}))
    other = campaign.put_trajectories(2, pa.table({"x": [3]}))
    campaign.put_staging(1, pa.table({"x": [1, 2]}))
    next_staging = campaign.put_staging(2, pa.table({"x": [3]}))
    campaign.commit_step(manifest(1, [kept]))
    assert campaign.store.list("trajectories") == [kept.key, other.key]
    assert campaign.store.list("staging") == [next_staging.key]
    assert lost.key != kept.key
    assert kept.rows == 2
    assert kept.key.startswith("trajectories/campaign=demo/step=000001/part-")
    assert get_table(campaign.store, kept).to_pydict() == {"x": [1, 2]}


def test_a_table_with_another_digest_is_refused(campaign):
    ref = campaign.put_trajectories(1, pa.table({"x": [0]}))
    with pytest.raises(StoreError, match="has digest"):
        get_table(campaign.store, dataclasses.replace(ref, digest="0" * 64))


def test_checkpoint_is_a_policy_folder_beside_its_optimizer(campaign, tmp_path):
    for part in ("policy", "optimizer"):
        (tmp_path / "out" / part).mkdir(parents=True)
        (tmp_path / "out" / part / "w.bin").write_bytes(part.encode())
    policy, optimizer = campaign.stage_checkpoint(7, tmp_path / "out", BASE.digest)
    assert (policy.version, policy.weights_uri, policy.parent) == (7, "checkpoints/demo/step=000007/policy", "b" * 64)
    assert optimizer.key == "checkpoints/demo/step=000007/optimizer"
    assert (campaign.store.fetch_folder(policy.weights_uri, policy.digest) / "w.bin").read_bytes() == b"policy"
    assert (campaign.store.fetch_folder(optimizer.key, optimizer.digest) / "w.bin").read_bytes() == b"optimizer"
    campaign.upload_checkpoint(policy, optimizer)
    elsewhere = Store(campaign.store.fs, campaign.store.root, campaign.store.uri, tmp_path / "another cache")
    CampaignStore(elsewhere, "demo").verify_checkpoint(policy, optimizer)


def test_a_checkpoint_lost_before_its_upload_is_said_to_be(campaign, tmp_path):
    for part in ("policy", "optimizer"):
        (tmp_path / "out" / part).mkdir(parents=True)
        (tmp_path / "out" / part / "w.bin").write_bytes(part.encode())
    policy, optimizer = campaign.stage_checkpoint(7, tmp_path / "out", BASE.digest)
    elsewhere = Store(campaign.store.fs, campaign.store.root, campaign.store.uri, tmp_path / "another cache")
    if campaign.store.is_local:
        campaign.store.delete("checkpoints")
    with pytest.raises(DamagedError, match="checkpoints/demo/step=000007/policy: it is not there"):
        CampaignStore(elsewhere, "demo").verify_checkpoint(policy, optimizer)


def test_evaluations_are_committed_by_benchmark_and_identity(campaign):
    for identity in ("a" * 16, "b" * 16):
        ref = campaign.put_evaluation(0, "toy", identity, pa.table({"t": [1.0]}))
        done = EvaluationManifest("demo", 0, "toy", 0.0, 1, (ref,), BASE, "abc", identity=identity)
        campaign.commit_evaluation(done)
        assert campaign.evaluation(0, "toy", identity) == done
    assert [e.identity for e in campaign.evaluations()] == ["a" * 16, "b" * 16]
    assert len({e.trajectories[0].key for e in campaign.evaluations()}) == 2
    assert campaign.evaluation(1, "toy", "a" * 16) is None


def test_an_evaluations_commit_removes_what_unfinished_attempts_at_it_left(campaign):
    lost, kept = (campaign.put_evaluation(0, "toy", "a" * 16, pa.table({"t": [t]})) for t in (0.0, 1.0))
    other = campaign.put_evaluation(0, "toy", "b" * 16, pa.table({"t": [2.0]}))
    campaign.commit_evaluation(EvaluationManifest("demo", 0, "toy", 0.0, 1, (kept,), BASE, "abc", identity="a" * 16))
    assert lost.key not in campaign.store.list("evaluations")
    assert campaign.store.list("evaluations") == sorted([kept.key, other.key])


def test_a_manifest_from_the_future_is_refused(campaign):
    campaign.commit_step(manifest(1, schema_version=99))
    with pytest.raises(StoreError, match="schema version 99"):
        campaign.manifest(1)


def test_a_damaged_manifest_is_named(campaign):
    campaign.store.write_json(campaign.manifest_key(1), {"schema_version": 1, "step": "one"})
    with pytest.raises(StoreError, match=r"000001/manifest\.json is not a manifest"):
        campaign.manifest(1)


def test_one_name_is_one_campaign(campaign):
    campaign.save_config(config())
    machine = {"engine": {"max_num_seqs": 1}, "sandbox": {"workers": 9}, "trainer": {"processes": 8, "zero_stage": 3}}
    campaign.save_config(config(steps=9, store="moved", **machine))
    with pytest.raises(ConfigError, match=r"seed was 0, is now 1; tool\.max_calls was 1, is now 2"):
        campaign.save_config(config(seed=1, tool={"max_calls": 2}))
    assert [c.name for c in campaigns(campaign.store)] == ["demo"]


def test_versions_name_code_and_packages():
    found = versions()
    assert {"python", "torch", "code"} <= found.keys()
    assert len(found["code"]) == 16
