from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from torl_core.config import BenchmarkConfig, CampaignConfig, Config, Decides, Effect, Neutral


def make(**changes: Any) -> CampaignConfig:
    values = {"name": "c", "store": "s", "steps": 10, "model": {"path": "m"}, "problems": {"location": "toy:train"}}
    return CampaignConfig.model_validate(values | changes)


def test_defaults_are_the_papers() -> None:
    config = make()
    assert (config.rollout.problems_per_step, config.rollout.samples_per_problem) == (128, 16)
    assert (config.tool.max_calls, config.rollout.temperature, config.rollout.max_new_tokens) == (1, 1.0, 3072)
    assert config.trainer.learning_rate == 1e-6
    assert (config.reward.correct, config.reward.wrong, config.reward.code_error) == (1.0, -1.0, 0.0)
    assert config.rollout.template == "torl"


def test_learning_rate_warms_up_and_decays_to_its_final_share() -> None:
    config = make(trainer={"learning_rate": 1.0, "final_learning_rate_share": 0.1, "warmup_steps": 4}, steps=14)
    assert [round(config.learning_rate(k), 10) for k in (1, 2, 3, 4)] == [0.2, 0.4, 0.6, 0.8]
    assert round(config.learning_rate(9), 10) == 0.55
    assert round(config.learning_rate(14), 10) == 0.1
    assert {make().learning_rate(k) for k in range(1, 11)} == {1e-6}


def test_groups_that_cannot_be_dealt_into_equal_mini_batches_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"problems_per_step is 10 and algorithm.updates_per_step is 4.*try 12"):
        make(rollout={"problems_per_step": 10}, algorithm={"updates_per_step": 4})


def test_a_row_that_cannot_hold_a_response_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"row_tokens is 64 and rollout.max_new_tokens is 64"):
        make(rollout={"max_new_tokens": 64}, trainer={"row_tokens": 64})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollout": {"samples_per_problem": 1}}, r"samples_per_problem[\s\S]*greater than or equal to 2"),
        ({"reward": {"correct": -1}}, r"correct is -1.0 and reward.wrong is -1.0.*differ by 1e-12 at least"),
        ({"reward": {"correct": 0, "wrong": 1e-13}}, r"correct is 0.0 and reward.wrong is 1e-13"),
        ({"trainer": {"betas": [0.9, 1.0]}}, r"betas.1[\s\S]*less than or equal to 0.999999"),
        ({"trainer": {"betas": [1.0, 0.9]}}, r"betas.0[\s\S]*less than or equal to 0.999999"),
        ({"trainer": {"betas": [0.9, 1 - 1e-8]}}, r"betas.1[\s\S]*less than or equal to 0.999999"),
        ({"trainer": {"zero_stage": 0}}, r"zero_stage is 0 and model.dtype is bfloat16.*set trainer.zero_stage to 1"),
    ],
)
def test_a_campaign_that_cannot_learn_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(**changes)


def test_stage_0_is_for_float32_weights_or_the_other_learner() -> None:
    make(trainer={"zero_stage": 0}, model={"path": "m", "dtype": "float32"})
    make(trainer={"zero_stage": 0, "backend": "reference"})


@pytest.mark.parametrize("seed", [-1, 1 << 31, 1 << 64])
def test_a_seed_that_a_library_cannot_take_is_refused(seed: int) -> None:
    with pytest.raises(ValidationError, match=r"seed[\s\S]*(greater|less) than"):
        make(seed=seed)
    assert make(seed=(1 << 31) - 1).seed == 2147483647


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "inf", "nan"])
@pytest.mark.parametrize(
    ("section", "key"),
    [("rollout", "temperature"), ("reward", "correct"), ("algorithm", "clip_high"), ("trainer", "learning_rate")],
)
def test_a_number_that_is_not_finite_is_refused(section: str, key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"{section}\.{key}[\s\S]*(finite|greater than)"):
        make(**{section: {key: value}})


@pytest.mark.parametrize("value", [3e38, 1e300, -3e38, 1e-300, 1e-13])
@pytest.mark.parametrize(
    ("section", "key"),
    [("rollout", "temperature"), ("algorithm", "clip_low"), ("trainer", "learning_rate"), ("trainer", "max_grad_norm")],
)
def test_a_number_that_float32_cannot_compute_with_is_refused(section: str, key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=rf"{section}\.{key}[\s\S]*(greater|less) than or equal"):
        make(**{section: {key: value}})


def numbers_in(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a number in a JSON schema, with its place there."""
    inner = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    if isinstance(schema, dict) and schema.get("type") in ("number", "integer"):
        yield place, schema
    for key, part in inner:
        yield from numbers_in(part, f"{place}/{key}")


def test_every_number_of_a_config_has_bounds_within_those_of_float32_and_int32() -> None:
    numbers = dict(numbers_in(CampaignConfig.model_json_schema()))
    assert {"/$defs/TrainerConfig/properties/learning_rate", "/properties/seed"} <= numbers.keys()
    for place, schema in numbers.items():
        if "enum" not in schema:
            low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
            assert low is not None, place
            assert high is not None, place
            assert (-1e9 if schema["type"] == "number" else 0) <= low < high <= (1 << 31), place


def test_vllms_lowest_temperature_is_the_configs() -> None:
    assert make(rollout={"temperature": 0.01}).rollout.temperature == 0.01
    with pytest.raises(ValidationError, match=r"temperature[\s\S]*greater than or equal to 0.01"):
        make(rollout={"temperature": 0.009})
    for value in (0.0, 0.01):
        BenchmarkConfig.model_validate({"problems": {"location": "toy:test"}, "temperature": value})
    with pytest.raises(ValidationError, match=r"temperature[\s\S]*0 is greedy, and vLLM samples at 0.01"):
        BenchmarkConfig.model_validate({"problems": {"location": "toy:test"}, "temperature": 0.001})


def test_retention_says_what_it_keeps_and_needs_the_last() -> None:
    kept = [{}, {"last": 2}, {"last": 2, "best": 1}, {"last": 2, "every": 10, "best": 1}]
    assert [str(make(retention=values).retention) for values in kept] == [
        "all steps",
        "the last 2 steps",
        "the last 2 and the best 1 steps",
        "the last 2, multiples of 10 and the best 1 steps",
    ]
    with pytest.raises(ValidationError, match=r"retention.every is 5 .* set last too"):
        make(retention={"every": 5})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        make(retention={"last": 0})


def test_identity_changes_with_what_decides_results_and_with_nothing_else() -> None:
    base = make().identity()
    for same in (
        {"store": "t"},
        {"steps": 99},
        {"engine": {"backend": "transformers", "max_num_seqs": 1}},
        {"sandbox": {"workers": 9, "slots_per_worker": 1, "max_retries": 0}},
        {"retention": {"last": 1}},
        {"rollout": {"save_every_s": 1, "max_concurrency": 7}},
        {"trainer": {"processes": 8, "zero_stage": 3, "threads": 1, "rows_per_micro_batch": 2}},
        {"trainer": {"gradient_checkpointing": True, "row_tokens": 8192, "backend": "reference"}},
    ):
        assert make(**same).identity() == base
    for other in (
        {"seed": 1},
        {"tool": {"max_calls": 2}},
        {"sandbox": {"timeout_s": 1}},
        {"trainer": {"learning_rate": 2e-6}},
        {"reward": {"code_error": -0.5}},
        {"name": "d"},
    ):
        assert make(**other).identity() != base, other


def test_conditions_change_with_what_perturbs_results_too() -> None:
    base = make().conditions()
    for other in ({"seed": 1}, {"trainer": {"processes": 8}}, {"engine": {"backend": "transformers"}}):
        assert make(**other).conditions() != base, other
    for same in (
        {"store": "t"},
        {"steps": 99},
        {"rollout": {"save_every_s": 1}},
        {"problems": {"location": "moved", "digest": "a"}},
    ):
        assert make(**same).conditions() == base, same


# --- what a setting does to results


def models_in(annotation: Any) -> list[type[Config]]:
    """The sections that a field of this type may hold, on its own or in a union, a tuple or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def without_word(model: type[Config], place: str = "") -> Iterator[str]:
    """Fields of `model` and of all sections in it that do not say what they do to results."""
    for name, field in model.model_fields.items():
        words = [mark for mark in field.metadata if isinstance(mark, Effect)]
        inner = models_in(field.annotation)
        if len(words) != (0 if inner == [field.annotation] else 1):
            yield f"{place}{name}"
        for section in inner:
            yield from without_word(section, f"{place}{name}.")


def test_every_field_says_what_it_does_to_results() -> None:
    assert list(without_word(CampaignConfig)) == []


def test_a_field_without_that_word_is_found_wherever_it_is() -> None:
    class Inner(Config):
        said: Decides[int] = 1
        silent: int = 1

    class Outer(Config):
        """A section alone says nothing itself; one that may be missing says whether that decides."""

        section: Inner = Inner()
        optional: Inner | None = None
        several: Neutral[dict[str, Inner]]
        twice: Decides[Neutral[int]] = 1

    assert list(without_word(Outer)) == ["section.silent", "optional", "optional.silent", "several.silent", "twice"]


def test_settings_by_what_they_do_to_results() -> None:
    config = make(fork={"store": "elsewhere", "step": 3, "policy": "p", "optimizer": "o"})
    deciding, perturbing = config.deciding(), config.perturbing()
    assert (deciding["name"], deciding["seed"], deciding["rollout"]["temperature"]) == ("c", 0, 1.0)
    assert deciding["fork"] == {"policy": "p", "optimizer": "o"}
    assert make().deciding()["fork"] is None
    assert deciding["trainer"].keys() & perturbing["trainer"].keys() == set()
    assert perturbing["rollout"] == {"max_concurrency": 2048}
    assert perturbing["sandbox"] == {"urls": [], "workers": 2, "slots_per_worker": 4, "max_retries": 3}
    assert (perturbing["engine"]["backend"], perturbing["trainer"]["processes"]) == ("vllm", 1)
    neutral = {"store", "steps", "evaluation", "retention", "tracking"}
    assert neutral & (deciding.keys() | perturbing.keys()) == set()
    assert "engine" not in deciding


# --- problems of one source or several

SEVERAL = [{"location": "a.jsonl", "answer": "solution"}, {"location": "b/", "name": "b"}]


def test_one_source_and_several_are_read_alike():
    one = make(problems={"location": "a.jsonl", "answer": "solution", "limit": 3}).problems
    assert [(s.location, s.answer, s.limit) for s in one.each] == [("a.jsonl", "solution", 3)]
    several = make(problems={"sources": SEVERAL}).problems
    assert [(s.location, s.answer, s.name) for s in several.each] == [("a.jsonl", "solution", None), ("b/", None, "b")]
    for problems in (one, several):
        assert make(problems=problems.model_dump(mode="json")).problems == problems


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ({}, "location is missing: give it, or several under sources"),
        ({"sources": []}, "location is missing"),
        ({"sources": SEVERAL, "location": "c.jsonl"}, "location and sources are both given"),
        ({"sources": SEVERAL, "statement": "q", "limit": 3}, "statement, limit and sources are both given"),
        ({"sources": SEVERAL, "weights": {"a": 0}}, "greater than"),
    ],
)
def test_sources_that_contradict_one_another_are_refused(problems, said):
    with pytest.raises(ValidationError, match=said):
        make(problems=problems)


def test_weights_decide_results_and_a_benchmark_has_none():
    weighted = make(problems={"sources": SEVERAL, "weights": {"a": 1, "b": 2}})
    assert weighted.identity() != make(problems={"sources": SEVERAL}).identity()
    assert make(problems={"sources": SEVERAL}).identity() == make().identity()
    with pytest.raises(ValidationError, match="weights are for training only"):
        make(evaluation={"benchmarks": {"b": {"problems": {"location": "a.jsonl", "weights": {"a": 1}}}}})
