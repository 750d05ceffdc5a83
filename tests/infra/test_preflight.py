"""What is refused before anything starts, on a real model folder of random weights."""

import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.campaign import campaign
from infra.preflight import Checked, check, checked, checked_ahead, step_to_evaluate
from infra.problems import contents_digest, load_problems, put_problems
from infra.resources import session
from infra.settings import apply_overrides, load_campaign
from infra.storage import CampaignStore, StepManifest, Store
from tasks.prepare import prepare
from tests.infra.conftest import rows
from tests.infra.storage.campaign_kit import BASE, checkpoint
from torl_core import grading
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError, DataError, StoreError, TorlError
from torl_core.types import Problem


def checked_(values: Mapping[str, Any]) -> Checked:
    with session():
        return check(CampaignConfig.model_validate(values))


def of_length(tokens: int) -> str:
    """A statement whose prompt has `tokens` tokens: the template `short` adds 17, and each sign is one token."""
    return "#" * (tokens - 17)


def test_a_prompt_fits_up_to_the_row_less_the_response(values: dict[str, Any], tmp_path: Path) -> None:
    values["problems"] = {"location": rows(tmp_path / "a.jsonl", [of_length(112), "1?", of_length(113), "2?"])}
    with pytest.raises(DataError, match=r"1 of 4 rows") as caught:
        checked_(values)
    assert (
        "line 3: its prompt has 113 tokens, and trainer.row_tokens (160) less rollout.max_new_tokens (48) leaves 112"
        in str(caught.value)
    )
    values["problems"]["skip_rejected"] = True
    found = checked_(values).problems
    assert [len(problem.statement) for problem in found.problems] == [95, 2, 2]
    assert [(row.line, row.reason[:26]) for row in found.rejected] == [(3, "its prompt has 113 tokens,")]
    assert found.rejected[0].row.startswith('{"problem": "#####')


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"trainer": {"row_tokens": 2000}},
            r"engine.max_model_len \(256\) less rollout.max_new_tokens \(48\) leaves 208",
        ),
        ({"trainer": {"row_tokens": 2000}, "engine": {}}, r"the model's window \(1024\) .* leaves 976"),
    ],
)
def test_the_smallest_limit_decides(values: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    values |= {"problems": {"location": rows(tmp_path / "a.jsonl", ["1?", "2?", of_length(977)])}, **changes}
    with pytest.raises(DataError, match=rf"line 3: its prompt has 977 tokens, and {said}"):
        checked_(values)


def test_a_benchmarks_prompt_is_never_packed_into_a_row(values: dict[str, Any], tmp_path: Path) -> None:
    source = {"location": rows(tmp_path / "b.jsonl", [of_length(208), of_length(209)])}
    values["evaluation"] = {"benchmarks": {"hard": {"problems": source}}}
    with pytest.raises(DataError, match=r"b.jsonl: 1 of 2 rows .*line 2: its prompt has 209 tokens, and engine"):
        checked_(values)
    source |= {"skip_rejected": True}
    found = checked_(values).benchmarks["hard"]
    assert (len(found.problems), len(found.rejected)) == (1, 1)


def test_rows_behind_the_limit_take_the_place_of_those_that_do_not_fit(values: dict[str, Any], tmp_path: Path) -> None:
    statements = ["1?", of_length(113), "2?", of_length(114), "3?", "4?"]
    location = rows(tmp_path / "a.jsonl", statements)
    values["problems"] = {"location": location, "limit": 3, "skip_rejected": True}
    found = checked_(values).problems
    assert [problem.statement for problem in found.problems] == ["1?", "2?", "3?"]
    assert [row.line for row in found.rejected] == [2, 4]


def test_toy_problems_that_do_not_fit_are_rejected_too(values: dict[str, Any]) -> None:
    values["problems"] = {"location": "toy:train", "limit": 9}
    values["trainer"] = {"row_tokens": 72}
    with pytest.raises(DataError, match=r"toy:train: 9 of 9 rows .*line 1: its prompt has \d+ tokens, and trainer"):
        checked_(values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": {"max_model_len": 1025}}, r"engine.max_model_len is 1025 and the model's own window .* is 1024"),
        (
            {"engine": {}, "rollout": {"template": "short", "problems_per_step": 2, "max_new_tokens": 1024}},
            r"rollout.max_new_tokens is 1024 and the model's window is 1024",
        ),
        ({"rollout": {"template": "trol", "problems_per_step": 2, "max_new_tokens": 48}}, "rollout.template is 'trol'"),
        (
            {"rollout": {"template": "short", "problems_per_step": 4, "max_new_tokens": 48}},
            "there are 3 usable problems",
        ),
    ],
)
def test_what_cannot_run_on_this_model_and_these_problems(
    values: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    values |= {"trainer": {"row_tokens": 4096}, **changes}
    with pytest.raises(ConfigError, match=said):
        checked_(values)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda weights: weights[:-1], "bytes instead of"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "is a pointer of git-lfs"),
        (lambda weights: weights[:-4] + struct.pack("<f", math.nan), "has a value that is NaN or infinite"),
    ],
)
def test_a_model_that_is_not_whole(
    values: dict[str, Any], model: Path, tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    (folder / "model.safetensors").write_bytes(damage((model / "model.safetensors").read_bytes()))
    values["model"] = {"path": str(folder), "dtype": "float32"}
    with pytest.raises(DataError, match=said) as caught:
        checked_(values)
    assert not caught.value.retryable


def test_rows_are_read_before_the_model(values: dict[str, Any], tmp_path: Path) -> None:
    """A model may have to be fetched first."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"problem": "1+1?", "answer": ""}\n')
    values |= {"model": {"path": "/no/such/model"}, "problems": {"location": str(bad)}}
    with pytest.raises(DataError, match="line 1: answer is empty"):
        checked_(values)


def test_the_flow_takes_over_what_was_checked_ahead_of_it(values: dict[str, Any]) -> None:
    config = CampaignConfig.model_validate(values)
    with checked_ahead(config) as ready:
        Path(config.problems.location).unlink()  # so that a second check would fail
        assert len(checked(ready).problems.problems) == 3
        with pytest.raises(DataError, match="cannot be read"):
            checked(ready)


def test_a_sandbox_is_opened_where_only_a_benchmark_calls_the_tool(values: dict[str, Any]) -> None:
    problems = {"location": values["problems"]["location"]}
    values["evaluation"] = {"benchmarks": {"with-tool": {"problems": problems, "max_calls": 1}}}
    values["sandbox"] = {"backend": "remote", "urls": ["http://127.0.0.1:9"]}
    with pytest.raises(TorlError, match="No sandbox service answers"):
        checked_(values)


def test_the_step_to_evaluate_is_looked_up_first(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="campaign 'small' has no benchmarks"):
        step_to_evaluate(CampaignConfig.model_validate(values), None)
    values["evaluation"] = {"benchmarks": {"b": {"problems": {"location": "toy:test"}}}}
    config = CampaignConfig.model_validate(values)
    assert step_to_evaluate(config, None) == 0
    with pytest.raises(ConfigError, match="campaign 'small' has no step 7"):
        step_to_evaluate(config, 7)


_REPORT = "from flows.cli import main\nimport sys\ntry:\n    main()\nfinally:\n    print(*sys.modules)"


@pytest.mark.parametrize(
    ("command", "changes", "code"),
    [
        ("campaign", {"problems": {"location": "bad.jsonl"}}, 2),
        ("campaign", {"trainer": {"row_tokens": 72}, "problems": {"location": "toy:train", "limit": 9}}, 2),
        ("campaign", {"model": {"path": "/no/such/model"}}, 2),
        ("campaign", {"store": "/dev/null/store"}, 1),
        ("evaluate", {}, 2),
    ],
)
def test_a_refusal_needs_no_server_and_no_torch(
    values: dict[str, Any], tmp_path: Path, command: str, changes: dict[str, Any], code: int
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"problem": "1+1?"}\n')
    (tmp_path / "c.yaml").write_text(json.dumps(values | changes))
    load_campaign(tmp_path / "c.yaml")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    result = subprocess.run(
        [sys.executable, "-c", _REPORT, command, "c.yaml"],
        cwd=tmp_path, env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    imported = set(result.stdout.split())
    assert "infra.problems" in imported
    assert imported.isdisjoint({"prefect", "torch", "vllm", "deepspeed"})
    assert not (tmp_path / "prefect").exists()


def test_a_store_that_cannot_be_written_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="cannot write /dev/null/store"):
        checked_(values | {"store": "/dev/null/store"})


# --- the problems that a campaign began with


def begun(values: Mapping[str, Any]) -> CampaignConfig:
    """Check as the command does, and record the config as the first task does."""
    with session(), checked_ahead(CampaignConfig.model_validate(values)) as config:
        prepare.fn(config)
    return CampaignStore(Store.open(config.store), config.name).recorded_config()


def test_a_campaign_goes_on_with_the_problems_that_it_began_with(values: dict[str, Any], tmp_path: Path) -> None:
    first = begun(values).problems.digest
    rows(tmp_path / "train.jsonl", ["1+1?", "2+2?", "4+4?"])
    with pytest.raises(DataError) as refused:
        begun(values)
    second = refused.value.remedy.rpartition("problems.digest=")[2]
    assert first is not None
    assert re.fullmatch("[0-9a-f]{16}", second)
    assert f"have digest {second}, and problems.digest is {first}" in refused.value.what
    deliberate = values | {"problems": values["problems"] | {"digest": second}}
    assert begun(deliberate).problems.digest == second
    assert begun(values).problems.digest == second  # and the campaign goes on with these
    rows(tmp_path / "train.jsonl", ["1+1?", "2+2?", "3+3?"])
    with pytest.raises(DataError, match=f"have digest {first}, and problems.digest is {second}"):
        begun(values)


def test_where_problems_lie_and_what_columns_are_called_decides_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    first = begun(values).problems.digest
    found = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    moved = tmp_path / "moved.jsonl"
    moved.write_text(
        "".join(json.dumps({"q": row["problem"], "a": row["answer"], "kind": "sum"}) + "\n" for row in found)
    )
    there = {"location": str(moved), "statement": "q", "answer": "a"}
    assert begun(values | {"problems": there}).problems.digest == first


def test_other_columns_rows_and_orders_are_other_problems() -> None:
    one, two = Problem("1", "1+1?", "2", "s"), Problem("2", "2+2?", "4", "s")
    changed = [
        [two, one], [one], [replace(one, problem_id="3"), two], [replace(one, answer="3"), two],
        [replace(one, statement="1+1 ?"), two],
    ]  # fmt: skip
    assert len({contents_digest(problems) for problems in ([one, two], *changed)}) == 6


def test_a_campaign_of_an_earlier_version_has_the_problems_of_its_first_step(
    values: dict[str, Any], tmp_path: Path
) -> None:
    config = begun(values)
    store = CampaignStore(Store.open(config.store), config.name)
    ref = put_problems(store.store, load_problems(config.problems).problems)
    policy, optimizer = checkpoint(store, 1, tmp_path)
    store.commit_step(StepManifest(config.name, 1, (), BASE, policy, optimizer, "abc", problems=ref))
    record = config.model_dump(mode="json")
    del record["problems"]["digest"]
    store.store.write_json(store.config_key, record)
    assert begun(values).problems.digest == config.problems.digest
    store.store.write_json(store.config_key, record)
    rows(tmp_path / "train.jsonl", ["1+1?", "2+2?", "4+4?"])
    with pytest.raises(DataError, match=f"problems.digest is {config.problems.digest}"):
        begun(values)


def test_an_interrupted_first_run_is_resumed_under_the_same_conditions(values: dict[str, Any]) -> None:
    """The digest is known only once the problems were read; what the first run stored must count all the same."""
    config = CampaignConfig.model_validate(values)
    with session(), checked_ahead(config) as first:
        prepare.fn(first)
    with session(), checked_ahead(config) as resumed:
        assert resumed.conditions() == first.conditions()


# --- the grader that a campaign began with


def test_a_campaign_keeps_its_grader_until_another_is_asked_for(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "VERSION", "2")
    assert begun(values).reward.grader == "2"
    monkeypatch.setattr(grading, "VERSION", "3")
    with pytest.raises(ConfigError) as refused:
        begun(values)
    assert refused.value.what == "this torl's grader has version 3, and reward.grader is 2"
    assert refused.value.remedy.endswith("--set reward.grader=3")
    deliberate = apply_overrides(values, ["reward.grader=3"])
    assert begun(deliberate).reward.grader == "3"
    assert begun(values).reward.grader == "3"  # and the campaign goes on with it
    monkeypatch.setattr(grading, "VERSION", "2")
    with pytest.raises(ConfigError, match=r"grader has version 2, and reward\.grader is 3"):
        begun(values)


def test_another_grader_is_refused_before_anything_is_read(values: dict[str, Any]) -> None:
    nowhere = apply_overrides(values, ["reward.grader=other", "problems.location=nowhere.jsonl", "model.path=nowhere"])
    with pytest.raises(ConfigError, match=r"reward\.grader is other"):
        begun(nowhere)
    with pytest.raises(ConfigError, match=r"reward\.grader is other"):
        campaign.fn(CampaignConfig.model_validate(nowhere))


def test_a_campaign_of_an_earlier_version_has_the_first_grader(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "VERSION", "2")
    config = begun(values)
    store = CampaignStore(Store.open(config.store), config.name)
    record = config.model_dump(mode="json")
    del record["reward"]["grader"]
    store.store.write_json(store.config_key, record)
    with pytest.raises(ConfigError, match=r"grader has version 2, and reward\.grader is 1"):
        begun(values)
    monkeypatch.setattr(grading, "VERSION", "1")
    assert begun(values).reward.grader == "1"


def test_a_policy_is_evaluated_with_any_grader_and_its_campaign_keeps_its_own(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "VERSION", "2")
    begun(values)
    monkeypatch.setattr(grading, "VERSION", "3")
    with session(), checked_ahead(CampaignConfig.model_validate(values), trains=False) as config:
        prepare.fn(config)
    assert CampaignStore(Store.open(config.store), config.name).recorded_config().reward.grader == "2"
