"""`torl problems`: what a campaign would make of its problems, without starting anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from flows.cli import app
from infra.models import tokenizer_folder
from infra.preflight import checked, checked_ahead
from infra.settings import parse
from infra.storage import CampaignStore, Store
from infra.survey import survey
from tests.infra.problems.kit import jsonl
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError, DataError

GOOD = [{"id": i, "question": f"{i}+1?", "answer": f"so #### {i + 1}"} for i in range(4)]
BAD = [
    {"id": 0, "question": "again?", "answer": "#### 1"},
    {"question": "9?", "answer": "#### "},
    "{",
    "[",
    {"answer": "#### 1"},
]


def torl(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["problems", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def test_of_a_location(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "x.jsonl", *GOOD, *BAD)
    code, printed = torl(location, "--json", "--samples", "1")
    [found] = json.loads(printed)
    assert code == 2
    assert (found["setting"], found["location"], found["problems"], found["rejected"]) == ("problems", location, 4, 5)
    assert found["columns"] == {location: "statement from question, answer from answer (gsm8k), id from id"}
    assert found["reasons"] == {
        "not JSON: Expecting property name enclosed in double quotes, at character …": 1,
        "not JSON: Expecting value, at character …": 1,
        "same identifier … as …": 1,
        "its solution has no line `#### ANSWER`": 1,
        "no column … (columns: answer)": 1,
    }
    assert [row["line"] for row in found["first_rejected"]] == [5, 6, 7, 8, 9]
    assert {row["file"] for row in found["first_rejected"]} == {location}
    prompt = (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it.\n"
        "User: Please integrate natural language reasoning with programs to solve the problem above, and put your "
        "final answer within \\boxed{}.\n0+1?\nAssistant:"
    )
    assert found["samples"] == [{"problem_id": "0", "source": "x", "answer": "1", "prompt": prompt}]
    lengths = {"unit": "characters", "shortest": len(prompt), "median": len(prompt), "longest": len(prompt)}
    assert found["sources"] == {"x": {"problems": 4, "rejected": 5, "lengths": lengths}}
    assert found["refusals"] == ["5 rejected rows stop a campaign, unless skip_rejected is set"]
    assert found["first_step"] == {}
    code, printed = torl(location, "--set", "problems.skip_rejected=true")
    assert code == 0
    for part in ("4 problems, 5 rejected", "same identifier", f"{location}:5", "0+1?\nAssistant:", found["digest"]):
        assert part in printed


def test_keys_are_those_of_a_campaign(tmp_path: Path) -> None:
    location = jsonl(tmp_path / "x.jsonl", {"text": "1?", "answer": "no", "out": "7"})
    keys = ["problems.statement=text", "problems.answer=out", "rollout.template=short"]
    [found] = survey(location, keys)
    assert (found.samples[0].prompt, found.samples[0].answer) == ("User: 1?\nAssistant:", "7")
    with pytest.raises(ConfigError, match=r"problems\.statment is not a key, did you mean statement"):
        survey(location, ["problems.statment=text"])


def write(path: Path, values: dict[str, Any]) -> str:
    YAML(typ="safe").dump(values, path)
    return str(path)


def test_of_a_campaign(values: dict[str, Any], tmp_path: Path) -> None:
    """Its own problems and its benchmarks', as it would take and pin them; the store is not touched."""
    numina = [{"problem": f"what is {i}?", "answer": "2", "data_source": "numina"} for i in range(3)]
    long = {"problem": "7" * 300, "answer": "2"}
    pool = {"location": jsonl(tmp_path / "numina.jsonl", *numina, long), "skip_rejected": True}
    values["problems"] = {"sources": [values["problems"], pool], "weights": {"train": 1, "numina": 1}}
    values["evaluation"] = {"benchmarks": {"b": {"problems": {"location": "toy:test", "limit": 5}}}}
    own, benchmark = survey(write(tmp_path / "c.yaml", values))
    assert (own.problems, own.rejected, own.first_step, own.refusals) == (6, 1, {"numina": 1, "train": 1}, [])
    assert list(own.reasons) == [
        "its prompt has … tokens, and trainer.row_tokens (…) less rollout.max_new_tokens (…) leaves …"
    ]
    assert own.sources["train"].lengths is not None
    assert own.sources["train"].lengths.unit == "tokens"
    assert (benchmark.setting, benchmark.problems) == ("evaluation.benchmarks.b.problems", 5)
    assert not Path(values["store"]).exists()
    with checked_ahead(parse(CampaignConfig, values, "test")) as ready:
        assert checked(ready).problems.digest == own.digest
    assert not CampaignStore(Store.open(values["store"]), "small").config()


def test_what_would_stop_a_campaign_is_said(values: dict[str, Any], tmp_path: Path) -> None:
    values["problems"]["digest"] = "0123456789abcdef"
    values["rollout"]["problems_per_step"] = 9
    [found] = survey(write(tmp_path / "c.yaml", values))
    assert found.refusals[0].startswith("problems.digest is 0123456789abcdef, and the digest of these problems is ")
    assert found.refusals[1].startswith("there are 3 usable problems and rollout.problems_per_step is 9")
    assert torl(str(tmp_path / "c.yaml"))[0] == 2


def test_without_the_models_weights_tokens_are_counted(values: dict[str, Any], model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer-alone"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((model / name).read_bytes())
    [found] = survey(values["problems"]["location"], [f"model.path={folder}", "rollout.max_new_tokens=8"])
    lengths = found.sources["train"].lengths
    assert lengths is not None
    assert lengths.unit == "tokens"


def test_a_model_that_cannot_be_read(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config's model may be on another machine; one that the command itself names is meant."""
    values["model"] = {"path": "/no/such/model"}
    [found] = survey(write(tmp_path / "c.yaml", values))
    lengths = found.sources["train"].lengths
    assert lengths is not None
    assert lengths.unit == "characters"
    assert "Prompts are measured in characters" in capsys.readouterr().err
    with pytest.raises(DataError, match="/no/such/model"):
        survey(values["problems"]["location"], ["model.path=/no/such/model"])


def test_a_location_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        survey(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(ConfigError, match="such as hf:openai/gsm8k:main"):
        survey("hf:")


def test_a_tokenizer_in_a_store_is_fetched_without_the_weights(model: Path, tmp_path: Path) -> None:
    store = Store.open("memory://tokenizer-alone")
    for file in model.iterdir():
        store.write(file.name, file.read_bytes())
    (tmp_path / "scratch").mkdir()
    names = {file.name for file in tokenizer_folder(store.uri, tmp_path / "scratch").iterdir()}
    assert {"config.json", "tokenizer.json"} <= names
    assert not [name for name in names if "safetensors" in name]
