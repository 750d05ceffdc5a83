from pathlib import Path

import pytest
import yaml

from infra.settings import apply_overrides, load_campaign
from torl_core.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MINIMAL = "name: c\nstore: s\nsteps: 3\nmodel: {path: m}\nproblems: {location: 'toy:train'}\n"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_that_ships_validates(path: Path) -> None:
    assert load_campaign(path).steps > 0


@pytest.mark.parametrize("size", ["1.5b", "7b"])
def test_the_papers_configs_say_what_the_paper_says(size: str) -> None:
    config = load_campaign(CONFIGS / f"qwen2.5-math-{size}.yaml")
    assert (config.rollout.problems_per_step, config.rollout.samples_per_problem) == (128, 16)
    assert (config.tool.max_calls, config.trainer.learning_rate, config.rollout.max_new_tokens) == (1, 1e-6, 3072)
    assert set(config.evaluation.benchmarks) == {"aime24", "aime25", "math500", "olympiadbench", "amc23"}
    assert all(b.temperature == 0 for b in config.evaluation.benchmarks.values())


def test_no_deployment_that_ships_is_scheduled_without_its_parameters() -> None:
    deployments = yaml.safe_load((CONFIGS.parent / "prefect.yaml").read_text())["deployments"]
    assert [d["name"] for d in deployments] == ["campaign", "evaluate"]
    assert [d["name"] for d in deployments if "schedules" in d and "config" not in d.get("parameters", {})] == []


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_overrides_reach_into_sections_and_are_yaml(tmp_path: Path) -> None:
    config = load_campaign(write(tmp_path, MINIMAL), ["tool.max_calls=2", "trainer.betas=[0.5, 0.6]", "steps=7"])
    assert (config.tool.max_calls, config.trainer.betas, config.steps) == (2, (0.5, 0.6), 7)


def test_overrides_leave_the_given_values_alone() -> None:
    values = {"tool": {"max_calls": 1}}
    assert apply_overrides(values, ["tool.max_calls=3"]) == {"tool": {"max_calls": 3}}
    assert values == {"tool": {"max_calls": 1}}


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (MINIMAL, ["tool.max_calls=-1"], r"tool\.max_calls is -1: .*greater than or equal to 0"),
        (MINIMAL + "stepz: 4\n", [], r"stepz is not a key, did you mean steps\?"),
        (MINIMAL, ["rollout.max_new_token=3"], r"rollout\.max_new_token is not a key, did you mean max_new_tokens\?"),
        (MINIMAL, ["nonsense"], r"--set 'nonsense' has no key and value"),
        (MINIMAL, ["steps.more=1"], r"'steps' is the value 3"),
        ("steps: [", [], r"is not YAML"),
        ("- 1\n", [], r"holds \[1\]"),
        ("name: c\n", [], r"store is missing; steps is missing; model is missing; problems is missing"),
        (MINIMAL.replace("name: c", "name: 'a/b'"), [], r"name is 'a/b'"),
    ],
)
def test_bad_input_is_named_with_value_rule_and_remedy(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_campaign(write(tmp_path, text), overrides)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        load_campaign(tmp_path / "absent.yaml")
