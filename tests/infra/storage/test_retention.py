"""Which checkpoints stay, and that whatever goes says so."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.storage import Store
from infra.storage.garbage import find
from infra.storage.listing import StepLine, lines
from infra.storage.retention import Retention, kept
from infra.storage.store import REMOVED
from infra.storage.verification import plan, verify
from tests.infra.analytics.stored_kit import config
from tests.infra.storage.campaign_kit import problems, run_evaluation, run_step, start
from torl_core.config import RetentionConfig
from torl_core.errors import StoreError


def stored(campaign):
    return [line.step for line in lines(campaign.store) if isinstance(line, StepLine) and line.checkpoint == "stored"]


def retention(campaign, **values):
    evaluation = values.pop("evaluation", {})
    benchmarks = dict.fromkeys(evaluation.get("benchmarks", {}), problems(campaign.store))
    return Retention(campaign, config(campaign.name, retention=values, evaluation=evaluation, steps=9), benchmarks)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {1, 2, 3, 4, 5, 6}),
        ({"last": 1}, {6}),
        ({"last": 9}, {1, 2, 3, 4, 5, 6}),
        ({"last": 2, "every": 3}, {3, 5, 6}),
        ({"last": 1, "best": 1}, {4, 6}),  # 1 and 4 are equal: the later one
        ({"last": 1, "best": 2}, {1, 4, 6}),
        ({"last": 1, "every": 4, "best": 3}, {1, 3, 4, 6}),
    ],
)
def test_the_rule_by_hand(values, expected):
    scores = {1: 0.5, 2: -1.0, 3: 0.25, 4: 0.5}
    assert kept(range(1, 7), scores, RetentionConfig.model_validate(values)) == expected


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=12),
    st.integers(1, 3), st.integers(0, 4), st.integers(0, 3),
)  # fmt: skip
def test_removing_after_every_step_keeps_what_the_rule_keeps_of_all(rewards, last, every, best):
    """Step k's reward is known once step k+1 is committed; what was removed early would not have been kept later."""
    rule = RetentionConfig(last=last, every=every, best=best)
    present, known = set(), {}
    for step in range(1, len(rewards) + 1):
        present.add(step)
        present = kept(present, {k: v for k, v in known.items() if k in present}, rule)
        known[step] = rewards[step - 1]
    del known[len(rewards)]
    assert present == kept(range(1, len(rewards) + 1), known, rule)
    assert len(rewards) in present


def test_checkpoints_go_and_say_so_and_everything_else_stays(store, tmp_path):
    campaign = start(store)
    pruning = retention(campaign, last=1, every=3, best=1)
    removed = []
    for step, reward in enumerate([0.0, 0.9, 0.1, 0.2, 0.3], start=1):  # of what policy `step - 1` sampled
        run_step(campaign, step, tmp_path, reward=reward)
        removed.append(pruning.apply(step))
    assert removed == [[], [], [2], [], [4]]  # policy 1 has the best reward
    assert stored(campaign) == [1, 3, 5]
    assert [m.step for m in campaign.steps()] == [1, 2, 3, 4, 5]
    assert len(store.list("trajectories/campaign=demo")) == 5
    gone = campaign.manifest(2)
    elsewhere = Store(store.fs, store.root, store.uri, tmp_path / "another cache")
    assert campaign.is_removed(gone.policy_out)
    assert not campaign.is_removed(campaign.manifest(3).policy_out)
    for key, digest in ((gone.policy_out.weights_uri, gone.policy_out.digest), (gone.optimizer.key, None)):
        assert store.list(key) == [f"{key}/{REMOVED}"]
        with pytest.raises(
            StoreError, match=r"was removed by retention at 2.*keeps checkpoints of the last 1, multiples of 3"
        ):
            elsewhere.fetch_folder(key, digest)
    assert set(verify(store, plan(store))) == {None}
    assert find(store, timedelta(0)).garbage == []


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_rewards_by_different_graders_are_not_compared(store, tmp_path):
    """The best by each stays: a grader that rejects more makes no policy worse."""
    campaign = start(store)
    pruning = retention(campaign, last=1, best=1)
    judged = [(0.0, "1"), (0.9, "1"), (0.8, "1"), (0.1, "2"), (0.2, "2"), (0.15, "2")]
    for step, (reward, grader) in enumerate(judged, start=1):  # of what policy `step - 1` sampled
        run_step(campaign, step, tmp_path, reward=reward, grader=grader)
        pruning.apply(step)
    assert stored(campaign) == [1, 4, 6]


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_the_best_is_told_by_the_first_benchmark_where_policies_are_evaluated(store, tmp_path):
    campaign = start(store)
    benchmark = {"problems": {"location": "toy:test"}}
    evaluation = {"benchmarks": {"toy": benchmark, "aime": benchmark}, "every": 2}
    pruning = retention(campaign, last=1, best=1, evaluation=evaluation)
    for step, accuracy in [(1, None), (2, 0.5), (3, None), (4, 0.25), (5, None)]:
        policy = run_step(campaign, step, tmp_path, reward=float(step)).policy_out
        pruning.apply(step)
        if accuracy:
            run_evaluation(campaign, step, policy, benchmark="aime", accuracy=1 - accuracy)
            run_evaluation(campaign, step, policy, benchmark="toy", accuracy=accuracy)
    assert stored(campaign) == [2, 5]


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_a_policy_that_is_still_to_be_evaluated_stays(store, tmp_path):
    campaign = start(store)
    evaluation = {"benchmarks": {"toy": {"problems": {"location": "toy:test"}}}, "every": 2}
    pruning = retention(campaign, last=1, evaluation=evaluation)
    for step in (1, 2, 3):
        run_step(campaign, step, tmp_path)
    assert pruning.apply(3) == [1]
    assert stored(campaign) == [2, 3]
    run_evaluation(campaign, 2, campaign.manifest(2).policy_out, accuracy=0.5)
    assert pruning.apply(3) == [2]


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_removal_goes_on_where_it_was_interrupted(store, tmp_path):
    campaign = start(store)
    for step in (1, 2):
        run_step(campaign, step, tmp_path)
    place = "checkpoints/demo/step=000001/optimizer"
    store.write_json(f"{place}/{REMOVED}", {"at": "then", "kept": "the last 1"})
    with pytest.raises(StoreError, match="was removed by retention at then"):
        store.fetch_folder(place)
    assert retention(campaign, last=1).apply(2) == [1]
    assert store.list("checkpoints/demo/step=000001") == [f"{place}/{REMOVED}", f"{place[:-9]}policy/{REMOVED}"]


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_nothing_is_removed_by_default_nor_of_a_step_not_committed_nor_what_a_fork_started_from(store, tmp_path):
    campaign = start(store)
    for step in (1, 2, 3):
        run_step(campaign, step, tmp_path)
    store.write("checkpoints/demo/step=000000/policy/config.json", b"{}")
    assert retention(campaign).apply(3) == []
    assert retention(campaign, last=1).apply(2) == [1]
    assert stored(campaign) == [2, 3]
    assert store.exists("checkpoints/demo/step=000000/policy/config.json")


@pytest.mark.parametrize("store_uri", ["folder"], indirect=True)
def test_a_run_that_lost_its_campaign_removes_nothing(store, tmp_path):
    campaign = start(store)
    for step in (1, 2):
        run_step(campaign, step, tmp_path)
    with campaign.hold("slow") as lease:
        store.delete(lease.key)
        with pytest.raises(StoreError, match="removed"):
            retention(campaign, last=1).apply(2)
    assert stored(campaign) == [1, 2]
