"""Naming steps, and starting campaigns from them, on small hand-made stores."""

import shutil
from dataclasses import replace

import pytest

from infra.lineage import checked_folder, find_step, made_under, parse_address, pin, start_fork, state_before
from infra.storage import CampaignStore, Ref, StepManifest, Store
from tests.infra.analytics.stored_kit import POLICIES, config
from torl_core import grading
from torl_core.errors import ConfigError, StoreError
from torl_core.types import Policy


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("runs/store@7", ("runs/store", 7)),
        ("s3://user@bucket/p@000012", ("s3://user@bucket/p", 12)),
    ],
)
def test_an_address(address, parsed):
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["runs/store", "@3", "runs/store@", "runs/store@last", "runs/store@-1", "s@²"])
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match="names no step"):
        parse_address(address)


def finish(store, name, steps, tmp_path, **settings):
    """A campaign whose checkpoints are small folders, each with its own content."""
    campaign = CampaignStore(store, name)
    campaign.save_config(config(name, **settings))
    before = POLICIES[0]
    for step in range(1, steps + 1):
        folder = tmp_path / f"{name}-{step}"
        for part in ("policy", "optimizer"):
            (folder / part).mkdir(parents=True)
            (folder / part / "w.bin").write_text(f"{name} {step} {part}")
        policy, optimizer = campaign.stage_checkpoint(step, folder, before.digest)
        campaign.upload_checkpoint(policy, optimizer)
        campaign.commit_step(StepManifest(name, step, (), before, policy, optimizer, "abc"))
        before = policy
    return campaign


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "source")


@pytest.fixture
def two(store, tmp_path):
    """Campaign `long` with three steps, `short` with one."""
    finish(store, "long", 3, tmp_path)
    finish(store, "short", 1, tmp_path)
    return store


def test_a_step_is_found_by_number_and_where_needed_by_campaign(two):
    campaign, manifest = find_step(two, 2)
    assert (campaign.name, manifest.campaign, manifest.step) == ("long", "long", 2)
    assert find_step(two, 1, "short")[1].campaign == "short"


@pytest.mark.parametrize(
    ("step", "campaign", "said"),
    [
        (1, None, "step 1 of .* is ambiguous: the campaigns 'long', 'short' have it"),
        (9, None, "no finished step 9.*long: 1 to 3; short: 1 to 1"),
        (0, "long", "no finished step 0. Finished steps, counted from 1, are long: 1 to 3"),
        (2, "short", "no finished step 2.*short: 1 to 1"),
        (1, "other", "no campaign 'other'. It has 'long', 'short'"),
    ],
)
def test_a_step_that_is_not_there_or_not_one(two, step, campaign, said):
    with pytest.raises(ConfigError, match=said):
        find_step(two, step, campaign)


def test_another_campaigns_damage_hides_no_step_and_is_named(two, capsys):
    two.write(CampaignStore(two, "short").manifest_key(1), b"{")
    assert find_step(two, 2)[0].name == "long"
    assert capsys.readouterr().err == "", "step 2 of `short` is not there, whatever its step 1 is"
    assert find_step(two, 1)[0].name == "long"
    said = " ".join(capsys.readouterr().err.split())
    assert "step 1 is taken from campaign 'long'; another one's is damaged" in said
    assert "campaigns/short/steps/000001/manifest.json" in said


def test_damage_that_may_hide_the_step_is_the_error(two):
    two.write(CampaignStore(two, "long").manifest_key(2), b"{")
    for campaign in (None, "long"):
        with pytest.raises(StoreError, match=r"campaigns/long/steps/000002/manifest\.json"):
            find_step(two, 2, campaign)
    with pytest.raises(ConfigError, match="no finished step 2"):
        find_step(two, 2, "short")


def test_an_empty_store_has_no_step(tmp_path):
    with pytest.raises(ConfigError, match="no finished step 1"):
        find_step(Store.open(tmp_path / "nothing"), 1)


def test_a_removed_checkpoint_is_named(two):
    campaign, manifest = find_step(two, 2, "long")
    policy, optimizer = state_before(campaign, manifest)
    assert (policy.version, optimizer.key) == (1, "checkpoints/long/step=000001/optimizer")
    two.delete("checkpoints/long/step=000001")
    with pytest.raises(StoreError, match=r"a replay is not possible: .*step=000001/policy.*retention may have removed"):
        checked_folder(two, policy.weights_uri, policy.digest, "a replay")


# --- forks


def forking(tmp_path, name="fork", **fork):
    given = {"store": str(tmp_path / "source"), "step": 2, **fork}
    return config(name, fork=given, seed=5).model_copy(update={"store": str(tmp_path / "own")})


def started(wanted):
    """As `prepare` does: copied, then recorded."""
    pinned = pin(wanted)
    own = CampaignStore(Store.open(pinned.store), pinned.name)
    own.check_config(pinned)
    state = start_fork(pinned)
    own.save_config(pinned)
    return own, state


def test_a_fork_holds_its_own_copy_and_needs_the_source_once(two, tmp_path):
    own, (policy, optimizer) = started(forking(tmp_path))
    source = find_step(two, 2)[1]
    assert policy == Policy(0, "checkpoints/fork/step=000000/policy", source.policy_out.digest)
    assert optimizer == Ref("checkpoints/fork/step=000000/optimizer", source.optimizer.digest)
    assert own.store.read("checkpoints/fork/step=000000/policy/w.bin") == b"long 2 policy"
    assert own.store.read("checkpoints/fork/step=000000/optimizer/w.bin") == b"long 2 optimizer"
    recorded = own.recorded_config().fork
    assert (recorded.campaign, recorded.step) == ("long", 2)
    assert (recorded.policy, recorded.optimizer) == (source.policy_out.digest, source.optimizer.digest)

    shutil.rmtree(tmp_path / "source")
    assert started(forking(tmp_path))[1] == (policy, optimizer)


def test_a_fork_is_trained_from_its_copy(two, tmp_path):
    own, (policy, optimizer) = started(forking(tmp_path))
    first = StepManifest("fork", 1, (), policy, POLICIES[1], None, "abc")
    own.commit_step(first)
    assert state_before(own, first) == (policy, optimizer)
    campaign, manifest = find_step(two, 1, "long")
    assert state_before(campaign, manifest) == (POLICIES[0], None)


@pytest.mark.usefixtures("two")
def test_a_copy_that_was_cut_off_is_made_again(tmp_path):
    pinned = pin(forking(tmp_path))
    start_fork(pinned)
    Store.open(tmp_path / "own").delete("checkpoints/fork/step=000000/optimizer")
    own, (_, optimizer) = started(forking(tmp_path))
    own.store.verify_folder(optimizer.key, optimizer.digest)


@pytest.mark.usefixtures("two")
def test_a_source_that_moved_is_the_same_source(tmp_path):
    started(forking(tmp_path))
    shutil.move(tmp_path / "source", tmp_path / "moved")
    own, _ = started(forking(tmp_path, store=str(tmp_path / "moved")))
    assert own.recorded_config().fork.store == str(tmp_path / "moved")


@pytest.mark.usefixtures("two")
def test_another_source_under_the_same_name_is_refused(tmp_path):
    started(forking(tmp_path))
    with pytest.raises(ConfigError, match=r"fork\.optimizer was .*, is now .*fork\.policy was"):
        started(forking(tmp_path, step=3))
    with pytest.raises(ConfigError, match=r"fork was \{.*\}, is now None"):
        started(forking(tmp_path).model_copy(update={"fork": None}))


def test_what_cannot_be_forked(two, tmp_path):
    with pytest.raises(ConfigError, match=r"step 1 of .* is ambiguous"):
        pin(forking(tmp_path, step=1))
    with pytest.raises(ConfigError, match=r"fork\.policy is ffff and the step's is"):
        pin(forking(tmp_path, policy="ffff"))
    other = forking(tmp_path)
    other = other.model_copy(update={"model": other.model.model_copy(update={"dtype": "float32"})})
    with pytest.raises(ConfigError, match=r"model\.dtype is float32 and campaign 'long' has bfloat16"):
        pin(other)
    two.write("checkpoints/long/step=000002/policy/w.bin", b"damaged")
    with pytest.raises(StoreError, match=r"a fork of step 2 of campaign 'long' is not possible: .* has digest"):
        start_fork(pin(forking(tmp_path)))
    assert not Store.open(tmp_path / "own").list("")


def test_where_the_source_lies_is_no_part_of_identity():
    given = {"store": "a", "step": 2, "policy": "p", "optimizer": "o"}
    one, other = (config("fork", fork=given | {"store": store}) for store in "ab")
    assert one.identity() == other.identity()
    assert one.identity() != config("fork", fork=given | {"policy": "q"}).identity()
    assert one.identity() != config("fork").identity()


# --- what is filled in when a campaign starts


def test_a_new_campaign_has_the_newest_dialect_and_a_stored_one_keeps_its_own(tmp_path):
    wanted = config("tool").model_copy(update={"store": str(tmp_path)})
    assert wanted.tool.dialect is None
    assert pin(wanted).tool.dialect == 2
    store = CampaignStore(Store.open(tmp_path), "tool")
    store.save_config(pin(wanted))
    recorded = store.store.read_json(store.config_key)
    del recorded["tool"]["dialect"]  # as an earlier version recorded it
    recorded["tool"]["observation_max_chars"] = 2000
    store.store.write_json(store.config_key, recorded)
    assert (pin(wanted).tool.dialect, pin(wanted).tool.observation_max_chars) == (1, 2000)
    store.check_config(pin(wanted))
    other = wanted.model_copy(update={"tool": wanted.tool.model_copy(update={"dialect": 2})})
    with pytest.raises(ConfigError, match=r"tool\.dialect was 1, is now 2"):
        store.check_config(pin(other))


def test_a_step_is_made_again_under_the_settings_that_made_it(store, tmp_path):
    before = config("tool", trainer={"processes": 2, "zero_stage": 2}, engine={"backend": "transformers"})
    manifest = replace(finish(store, "tool", 1, tmp_path).manifest(1), settings=before.perturbing(), grader="3")
    reward = {"grader": "4", "wrong": -2.0}
    now = config("tool", trainer={"processes": 8, "learning_rate": 1e-3}, store="moved", reward=reward)
    again = made_under(now, manifest)
    assert (again.trainer.processes, again.trainer.zero_stage, again.engine.backend) == (2, 2, "transformers")
    assert (again.trainer.learning_rate, again.store) == (1e-3, "moved")
    assert (again.reward.grader, again.reward.wrong) == ("3", -2.0)
    assert made_under(now, replace(manifest, settings=None, grader="4")) == now


def test_a_fork_has_the_grader_of_this_torl_and_says_where_its_source_had_another(tmp_path, monkeypatch, capsys):
    finish(Store.open(tmp_path / "source"), "tool", 1, tmp_path)
    wanted = config("fork", fork={"store": str(tmp_path / "source"), "step": 1})
    wanted = wanted.model_copy(update={"store": str(tmp_path / "own")})
    monkeypatch.setattr(grading, "VERSION", "7")
    fork = pin(wanted)
    assert fork.reward.grader == "7"
    start_fork(fork)
    said = " ".join(capsys.readouterr().err.split())
    assert "step 1 of campaign 'tool' was judged by grader 1, and 'fork' is judged by grader 7" in said
