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
        (MINIMAL + "tool:\n  max_calls: -1\n", [], r"tool\.max_calls is -1: .*0 \(line 7\)"),
        (
            MINIMAL + "tool: {session: 1, max_cals: 1}\n",
            [],
            r"max_cals is not a key, did you mean max_calls\? \(line 6\)",
        ),
        (MINIMAL + "trainer: {betas: [0.9,\n  2]}\n", [], r"trainer\.betas\.1 is 2: .* \(line 7\)"),
        (MINIMAL.replace("{path: m}", "{}"), [], r"model\.path is missing \(line 4\)"),
        (
            MINIMAL + "tool: {max_calls: 1}\n",
            ["tool={max_calls: -1}"],
            r"max_calls is -1: .*\(--set 'tool=\{max_calls: -1\}'\)",
        ),
        (MINIMAL, ["steps=true"], r"steps is True: true and false are for switches.* \(--set 'steps=true'\)"),
        (MINIMAL, ["trainer.betas=[true, 0.9]"], r"trainer\.betas is \[True, 0\.9\]: true and false are for switches"),
        (MINIMAL, ["reward.wrong=false"], r"reward\.wrong is False: true and false are for switches"),
        (MINIMAL, ["seed=1:30"], r"seed is '1:30'"),
        (MINIMAL, ["seed=2024-13-45"], r"seed is '2024-13-45'"),
        (MINIMAL, ["name=007"], r"name is 7: .*string, so put it in quotes"),
        (MINIMAL, ["name=true"], r"name is True: .*put it in quotes"),
        (MINIMAL, ["steps=["], r"--set 'steps=\[', line 1: this is not YAML"),
        (MINIMAL, ["store=''"], r"store is '': a blank address would be the current folder.* \(--set \"store=''\"\)"),
        (MINIMAL.replace("store: s", "store: ' '"), [], r"store is ' ': a blank address.* \(line 2\)"),
        (MINIMAL, ["model.path=''"], r"model\.path is '': a blank address"),
        (MINIMAL, ["problems.location=''"], r"problems\.location is '': a blank address"),
        (MINIMAL, ["fork={store: '', step: 1}"], r"fork\.store is '': a blank address"),
        (MINIMAL + "steps: 4\n", [], r"c\.yaml, line 6: steps is given twice, first in line 3"),
        ("", [], r"c\.yaml holds None\. A campaign is a YAML mapping"),
        ("# nothing\n" * 200_000, [], r"c\.yaml has more than 1 MiB"),
    ],
)
def test_bad_input_is_named_with_value_rule_and_remedy(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_campaign(write(tmp_path, text), overrides)
    assert caught.value.exit_code == 2


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    for data, said in (
        (MINIMAL.encode() + b"# caf\xe9\n", "line 6: byte 82 is 0xe9, which is not UTF-8"),
        (MINIMAL.encode("utf-16"), "line 1: byte 0 is 0xff, which is not UTF-8"),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=said):
            load_campaign(path)


def test_a_byte_order_mark_and_line_ends_of_other_systems_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_campaign(path) == load_campaign(write(tmp_path, MINIMAL))


def test_plain_texts_are_read_as_yaml_1_2_reads_them(tmp_path: Path) -> None:
    config = load_campaign(write(tmp_path, MINIMAL + "seed: 010\n"), ["name=on", "trainer.learning_rate=1e-3"])
    assert (config.seed, config.name, config.trainer.learning_rate) == (10, "on", 0.001)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_campaign(tmp_path)
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        load_campaign(tmp_path / "absent.yaml")
