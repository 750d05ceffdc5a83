"""What makes two evaluations the same."""

from dataclasses import replace

import pytest

from tests.infra.analytics.stored_kit import config
from torl_core import grading
from torl_core.evaluation import evaluation_identity, evaluation_tool, perturbed_by
from torl_core.types import Policy

POLICY = Policy(1, "checkpoints/demo/step=000001/policy", "1" * 64)
BENCHMARK = {"problems": {"location": "toy:test"}}


def asked(benchmark=None, **changes):
    return config("demo", evaluation={"benchmarks": {"toy": BENCHMARK | (benchmark or {})}}, **changes)


def identity(values, policy=POLICY, problems="d" * 64, name="toy"):
    return evaluation_identity(values, name, policy, problems)


@pytest.mark.parametrize(
    "other",
    [
        {"benchmark": {"temperature": 0.5}},
        {"benchmark": {"samples": 4}},
        {"benchmark": {"max_calls": 0}},
        {"seed": 1},
        {"model": {"path": "base", "dtype": "float32"}},
        {"rollout": {"template": "plain"}},
        {"rollout": {"top_p": 0.5}, "engine": {"backend": "transformers"}},
        {"rollout": {"max_new_tokens": 64}},
        {"tool": {"max_calls": 1, "observation_max_tokens": 100}},
        {"tool": {"max_calls": 1, "session": True}},
        {"sandbox": {"timeout_s": 1.0}},
        {"sandbox": {"memory_mib": 64}},
        {"sandbox": {"max_output_bytes": 100}},
        {"reward": {"wrong": 0.0}},
    ],
    ids=str,
)
def test_each_setting_that_decides_makes_another_evaluation(other):
    assert identity(asked(**other)) != identity(asked())


def test_policy_problems_name_and_grader_decide(monkeypatch):
    values = asked()
    assert identity(values, replace(POLICY, digest="2" * 64)) != identity(values)
    assert identity(values, problems="e" * 64) != identity(values)
    two = config("demo", evaluation={"benchmarks": {"toy": BENCHMARK, "aime": BENCHMARK}})
    assert identity(two, name="aime") != identity(two) == identity(values)
    before = identity(values)
    monkeypatch.setattr(grading, "VERSION", "0")
    assert identity(values) != before


@pytest.mark.parametrize(
    "other",
    [
        {"benchmark": {"problems": {"location": "elsewhere.jsonl", "statement": "question"}}},
        {"benchmark": {"max_calls": 1}},  # the campaign's own C, written out
        {"store": "elsewhere"},
        {"steps": 9},
        {"sandbox": {"workers": 7, "max_retries": 0}},
        {"engine": {"backend": "transformers"}},
        {"rollout": {"problems_per_step": 7, "samples_per_problem": 7, "temperature": 0.5, "max_concurrency": 7}},
        {"trainer": {"learning_rate": 1.0}},
    ],
    ids=str,
)
def test_what_does_not_decide_makes_no_other_evaluation(other):
    assert identity(asked(**other)) == identity(asked())


def test_a_benchmark_may_have_a_c_of_its_own():
    assert evaluation_tool(asked({"max_calls": 0}), "toy").max_calls == 0
    assert evaluation_tool(asked(), "toy").max_calls == 1


def test_what_perturbs_an_evaluation_is_what_perturbs_sampling():
    values = asked(engine={"max_num_seqs": 7}, trainer={"processes": 4})
    assert perturbed_by(values) == {
        "rollout": {"max_concurrency": 2048},
        "engine": values.engine.model_dump() | {"max_num_seqs": 7},
        "sandbox": {"urls": [], "workers": 2, "slots_per_worker": 4, "max_retries": 3},
    }
