"""Which process stays warm for whom: openers that start nothing, and two models on the transformers engine."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import infra.resources
from infra.resources import Resources
from tests.torl_core.engines.conftest import END, IM_END, save_model, token
from torl_core.config import AlgorithmConfig, CampaignConfig, SandboxConfig, TrainerConfig
from torl_core.protocols import Generate, Sampling
from torl_core.trainer import open_learner
from torl_core.types import Policy


class Process:
    """Records in `log` what it was opened with, which policies it loaded, and its end."""

    def __init__(self, log: list[Any], name: str, given: tuple[Any, ...]) -> None:
        self.log, self.name = log, name
        log.append(("open", name, *given))

    async def load_policy(self, weights: Path, version: int) -> None:
        self.log.append(("load", weights.name, version))

    async def close(self) -> None:
        self.log.append(("close", self.name))


class LearnerProcess(Process):
    def close(self) -> None:  # type: ignore[override]
        self.log.append(("close", self.name))


@pytest.fixture
def resources() -> Iterator[Resources]:
    held = Resources()
    yield held
    held.close()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happened to the processes that start nothing, in order."""
    seen: list[Any] = []

    def opener(name: str) -> Callable[..., Any]:
        async def open_it(*given: Any) -> Process:
            return Process(seen, name, given)

        return open_it

    for name in ("engine", "sandbox", "grader"):
        monkeypatch.setattr(infra.resources, f"open_{name}", opener(name))
    monkeypatch.setattr(infra.resources, "open_learner", lambda *given: LearnerProcess(seen, "learner", given))
    return seen


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "chain", seed=1, chained=True)


def campaign(changes: Mapping[str, Any]) -> CampaignConfig:
    values: dict[str, Any] = {
        "name": "a",
        "store": "/store",
        "steps": 1,
        "model": {"path": "/model", "dtype": "float32"},
        "problems": {"location": "toy:train"},
        "engine": {"backend": "transformers"},
    }
    return CampaignConfig.model_validate(values | changes)


def variant(model: Path, folder: Path, name: str, change: Callable[[Any], None]) -> Path:
    """A copy of the model whose JSON file `name` was changed."""
    shutil.copytree(model, folder)
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"threads": 1}},
        {"trainer": {"max_grad_norm": 0.5}},
        {"algorithm": {"clip_high": 0.3}},
        {"model": {"path": "/model", "dtype": "bfloat16"}},
        {"rollout": {"temperature": 0.7}},
    ],
)
def test_a_learner_is_kept_for_equal_arguments_alone(
    resources: Resources, log: list[Any], changes: dict[str, Any]
) -> None:
    first = campaign({})
    assert resources.start_learner(first) is resources.start_learner(campaign({"seed": 7, "steps": 9}))
    changed = campaign(changes)
    resources.start_learner(changed)
    assert log == [
        ("open", "learner", first.trainer, first.algorithm, "float32", 1.0),
        ("close", "learner"),
        ("open", "learner", changed.trainer, changed.algorithm, changed.model.dtype, changed.rollout.temperature),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"backend": "transformers", "max_num_seqs": 8}},
        {"engine": {"backend": "vllm"}},
        {"model": {"path": "/model", "dtype": "bfloat16"}},
        {"seed": 1},
    ],
)
def test_an_engine_is_kept_for_equal_arguments_alone(
    resources: Resources, log: list[Any], model: Path, changes: dict[str, Any]
) -> None:
    first, changed = campaign({}), campaign(changes)
    policy = Policy(0, "chain", "digest")
    for config in (first, campaign({"name": "b", "store": "/other"}), changed):
        resources.run(resources.engine(config, policy, model))
    assert log == [
        ("open", "engine", first.engine, model, 0, "float32", 0),
        ("close", "engine"),
        ("open", "engine", changed.engine, model, 0, changed.model.dtype, changed.seed),
    ]


def test_an_engine_takes_other_weights_and_no_other_model(
    resources: Resources, log: list[Any], model: Path, tmp_path: Path
) -> None:
    trained = save_model(tmp_path / "trained", seed=2)
    variant(trained, tmp_path / "rewritten", "config.json", lambda c: c.update(transformers_version="4.0", dtype=None))
    others = {
        "config.json": lambda c: c.update(max_position_embeddings=80),
        "tokenizer.json": lambda t: t["added_tokens"].pop(),
        "generation_config.json": lambda g: g.update(eos_token_id=[END]),
    }
    folders = [variant(model, tmp_path / name, name, change) for name, change in others.items()]
    for version, folder in enumerate([model, trained, tmp_path / "rewritten", *folders]):
        resources.run(resources.engine(campaign({}), Policy(version, folder.name, folder.name), folder))
    events = [(entry[0], entry[3].name if entry[0] == "open" else entry[1]) for entry in log]
    assert events[:3] == [("open", "chain"), ("load", "trained"), ("load", "rewritten")]
    assert events[3:] == [event for name in others for event in (("close", "engine"), ("open", name))]


def test_the_policy_that_training_leaves_is_the_base_models_to_an_engine(
    resources: Resources, log: list[Any], model: Path, tmp_path: Path
) -> None:
    """transformers writes another config.json than a base model of an earlier version has."""

    def as_in_version_4(values: dict[str, Any]) -> None:
        values |= {"rope_theta": values.pop("rope_parameters")["rope_theta"], "torch_dtype": values.pop("dtype")}
        values |= {"transformers_version": "4.44.0", "use_mrope": False, "sliding_window": 4096}
        del values["layer_types"]

    base = variant(model, tmp_path / "base", "config.json", as_in_version_4)
    learner = open_learner(TrainerConfig(backend="reference"), AlgorithmConfig(), "float32", 1.0)
    learner.load(base, None)
    learner.save(tmp_path / "trained", tmp_path / "optimizer")
    assert (base / "config.json").read_bytes() != (tmp_path / "trained" / "config.json").read_bytes()
    for version, folder in enumerate((base, tmp_path / "trained")):
        resources.run(resources.engine(campaign({}), Policy(version, folder.name, folder.name), folder))
    assert [entry[0] for entry in log] == ["open", "load"]


def test_a_policy_that_the_engine_holds_is_not_loaded_again(resources: Resources, log: list[Any], model: Path) -> None:
    for version in (0, 0, 1, 1):
        resources.run(resources.engine(campaign({}), Policy(version, "chain", "digest"), model))
    assert [entry[0] for entry in log] == ["open", "load"]


def test_a_sandbox_is_kept_for_an_equal_config_and_the_grader_for_everybody(
    resources: Resources, log: list[Any]
) -> None:
    for config in (SandboxConfig(), SandboxConfig(), SandboxConfig(timeout_s=1), SandboxConfig(tmp_mib=8)):
        resources.run(resources.sandbox(config))
        resources.run(resources.grader())
    assert log == [
        ("open", "sandbox", SandboxConfig()),
        ("open", "grader"),
        ("close", "sandbox"),
        ("open", "sandbox", SandboxConfig(timeout_s=1)),
        ("close", "sandbox"),
        ("open", "sandbox", SandboxConfig(tmp_mib=8)),
    ]


def test_two_models_in_one_process_each_end_at_their_own_tokens(
    resources: Resources, model: Path, tmp_path: Path
) -> None:
    """The same weights; one names <|im_end|> as an end of text and the other does not."""
    other = variant(model, tmp_path / "other", "generation_config.json", lambda g: g.update(eos_token_id=END))
    said = (token("f"), IM_END)

    def answer(version: int, folder: Path) -> tuple[int, ...]:
        async def ask() -> tuple[int, ...]:
            engine = await resources.engine(campaign({}), Policy(version, folder.name, folder.name), folder)
            generated = await engine.generate(Generate((token("F"),), 4, ()), Sampling(temperature=0.0))
            assert generated.policy_version == version
            return generated.token_ids

        return resources.run(ask())

    assert answer(0, model) == said
    longer = answer(0, other)
    assert (longer[:2], len(longer)) == (said, 4), "it goes on to the limit"
    assert answer(1, model) == said
