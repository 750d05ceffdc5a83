"""Which policies a campaign evaluates on its way."""

import pytest

from flows.campaign import evaluate_due
from infra.storage.retention import Retention
from infra.storage.store import Store
from tasks.step import Prepared
from tests.infra.analytics.stored_kit import config
from tests.infra.storage.campaign_kit import BASE, problems, run_evaluation, run_step, start

BENCHMARK = {"problems": {"location": "toy:test"}}


@pytest.mark.parametrize(("every", "expected"), [(0, [0, 7]), (1, [0, 1, 2, 3, 4, 5, 6, 7]), (3, [0, 3, 6, 7])])
def test_before_the_first_step_after_the_last_and_after_each_so_many(every, expected):
    evaluation = config("demo", evaluation={"every": every}).evaluation
    assert [step for step in range(8) if evaluation.is_due(step, 7)] == expected


def test_a_benchmark_that_comes_later_is_not_run_on_policies_that_are_gone(tmp_path, capsys):
    """No task is started for it: there is no Prefect here to start one."""
    store = Store.open(tmp_path / "store")
    campaign = start(store)
    made = run_evaluation(campaign, 1, run_step(campaign, 1, tmp_path).policy_out)
    run_step(campaign, 2, tmp_path)
    evaluation = {"every": 1, "benchmarks": {"toy": BENCHMARK, "later": BENCHMARK}}
    values = config("demo", evaluation=evaluation, retention={"last": 1}).model_copy(update={"store": store.uri})
    ref = problems(store)
    without = config("demo", evaluation={"every": 1, "benchmarks": {"toy": BENCHMARK}}, retention={"last": 1})
    assert Retention(campaign, without, {"toy": ref}).apply(2) == [1]
    prepared = Prepared(ref, {"toy": ref, "later": ref}, BASE)
    assert evaluate_due(values, prepared, 1, campaign.manifest(1).policy_out) == [made]
    assert "step 1 is not evaluated on later: retention removed its checkpoint" in capsys.readouterr().err
