"""The commands of the README and of docs/ are what the programs take, and those that only read run as they stand."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app
from flows.demo import demo_campaigns
from infra.lineage import parse_address
from infra.settings import load_campaign
from infra.storage import CampaignStore, StepManifest, Store, records_to_table
from tests.infra.analytics.stored_kit import ANSWER, CODE, Letters, response
from torl_core.config import CampaignConfig
from torl_core.types import Policy

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEMO = "runs/demo/seed-1"
"""What the README's demo makes, which its other commands use."""
READ_ONLY = ("sql", "show", "store", "report", "grade", "exec", "doctor", "problems")
PLACEHOLDER = re.compile(r"[A-Z]+")


@dataclass(frozen=True)
class Command:
    place: str
    """Page and line."""
    line: str
    """The whole line."""
    words: list[str]
    """One program of it with its arguments; optional parts, which a page shows in brackets, are taken too."""


def commands(program: str) -> list[Command]:
    """Every call of `program` in a bash block of a page."""
    return [command for page in PAGES for command in _calls(page) if command.words[0] == program]


def _calls(page: Path) -> Iterator[Command]:
    blocks = re.finditer(r"^```bash\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        first = page.read_text()[: block.start(1)].count("\n") + 1
        for number, line in enumerate(block[1].splitlines(), first):
            whole = re.sub(r"\[(--[^\]]*)\]", r"\1", line)
            for part in _split(shlex.split(whole, comments=True), "|", "&"):
                words = part[next(i for i, word in enumerate(part) if not re.match(r"[A-Z_]+=", word)) :]
                yield Command(f"{page.name}:{number}", line, words)


def _split(words: list[str], *separators: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, separators[0]]:
        if word in separators and part:
            yield part
        part = [] if word in separators else [*part, word]


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The full name of the `torl` command that takes `words`, and its arguments. Raises as the command line does."""
    context = typer.main.get_command(app).make_context("torl", list(words))
    names: list[str] = []
    while isinstance(group := context.command, typer.core.TyperGroup):
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
        names.append(str(name))
    return " ".join(names), context.params


@pytest.fixture(scope="module")
def demo() -> CampaignConfig:
    """The campaign with the tool of the README's demo."""
    (words,) = [one.words for one in commands("torl") if one.words[1] == "demo"]
    options = parsed(words[1:])[1]
    assert f"{options['out']}/seed-{options['seed']}" == DEMO
    return demo_campaigns(Path(DEMO), options["seed"])[0]


def test_there_are_pages_with_commands() -> None:
    assert len(commands("torl")) > 15
    assert len(commands("make")) >= 2
    assert {one.words[1] for one in commands("torl")} >= {"campaign", "evaluate", "replay", *READ_ONLY}


@pytest.mark.parametrize("command", commands("torl"), ids=lambda one: one.place)
def test_torl_takes_the_command(command: Command, demo: CampaignConfig) -> None:
    name, given = parsed(command.words[1:])
    made = {demo.store, demo.model.path}
    config = given.get("config")
    if config:
        asked = load_campaign(ROOT / config, given["overrides"] or [])
        assert asked.model.path in made or given.get("fork"), "the demo's config has no base model of its own"
    for address in filter(None, (given.get("address"), given.get("fork"))):
        store, step = parse_address(address)
        assert store in made
        assert 1 <= step <= demo.steps
        assert given.get("campaign" if name == "replay" else "fork_campaign") == demo.name
    if name == "replay":
        assert all(one.split(".")[0] in ("algorithm", "reward", "trainer") for one in given["overrides"])
        load_campaign(ROOT / "configs" / "demo.yaml", given["overrides"])
    for store in filter(None, (given.get("store"), given.get("source"))):
        assert store in made or PLACEHOLDER.fullmatch(store)
    if name == "show":
        campaign, step, group, sample = given["trajectory_id"].rsplit("-", 3)
        assert campaign == demo.name
        assert 1 <= int(step) <= demo.steps
        assert int(group) < demo.rollout.problems_per_step
        assert int(sample) < demo.rollout.samples_per_problem


def test_every_command_and_option_in_a_sentence_is_there() -> None:
    """Such as `torl store verify`, or `torl campaign --fork`."""
    found = 0
    for page in PAGES:
        for text in re.findall(r"(?<!`)`torl ([^`]+)`(?!`)", page.read_text()):
            command: Any = typer.main.get_command(app)
            words = text.split()
            while words and not words[0].startswith("-") and isinstance(command, typer.core.TyperGroup):
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, f"{page.name}: torl {text}"
            found += 1
    assert found > 10


def test_make_has_every_target_and_variable() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    reads = makefile + (ROOT / "infra" / "setup.sh").read_text()
    in_sentences = [text for page in PAGES for text in re.findall(r"`((?:[A-Z_]+=\S+ )*make [^`]+)`", page.read_text())]
    used = [*map(str.split, in_sentences), *(one.words for one in commands("make"))]
    assert len(used) > 5
    for words in used:
        variables = [word.split("=")[0] for word in words if "=" in word]
        assert {word for word in words if "=" not in word} - {"make"} <= set(targets.split()), words
        assert all(re.search(rf"\b{variable}\b", reads) for variable in variables), words


def test_prefect_takes_its_commands() -> None:
    from prefect.cli._app import _app  # a private name, and no other parses without running

    lines = [one.words for one in commands("prefect")]
    header = [
        line[1:].split() for line in (ROOT / "prefect.yaml").read_text().splitlines() if line.startswith("#   pref")
    ]
    assert len(lines) == len(header) + 1 == 5, "prefect.yaml takes the server as given"
    assert lines[1:] == header
    for _, *words in lines:
        known = [word for word in words if word != "--no-prompt"]  # of every command
        _app.parse_args(known, exit_on_error=False, print_error=False)


# --- run as they stand


@pytest.fixture(scope="module")
def folder(demo: CampaignConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store at the demo's place, of its last step alone."""
    folder = tmp_path_factory.mktemp("docs")
    store = Store.open(folder / demo.store)
    campaign, step = CampaignStore(store, demo.name), demo.steps
    campaign.save_config(demo)
    records = [response(f"tool-{step:06d}-0003-{i:02d}", CODE, ("ok", "6"), ANSWER, correct=i < 2) for i in range(4)]
    before, after = (Policy(k, f"/models/{k}", f"{k:064x}") for k in (step - 1, step))
    ref = campaign.put_trajectories(step, records_to_table(records, Letters()))
    metrics, phases_s = {"loss": 0.5}, {"rollout": 1.0, "train": 0.5, "total": 1.6}
    campaign.commit_step(
        StepManifest(demo.name, step, (ref,), before, after, None, demo.identity(), metrics=metrics, phases_s=phases_s)
    )
    return folder


def reading(page: str) -> list[Any]:
    found = [one for one in commands("torl") if one.words[1] in READ_ONLY and one.place.startswith(page)]
    return [pytest.param(one, id=" ".join(one.words[:2])) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize("command", reading("README.md"))
def test_a_command_that_reads_runs_as_it_stands(command: Command, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.line],
        cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    said = {
        "sql": '"tool",45,1,4,',
        "show": "tool-000045-0003-01",
        "store": "tool: 1 steps, 4 rows",
        "report": "report.html",
        "doctor": "sandbox",
        "problems": "digest",
    }
    if command.words[1] in said:
        assert said[command.words[1]] in run.stdout
    else:
        answer = json.loads(run.stdout)
        assert answer["id"] == 1
        assert answer.get("correct") is True or answer.get("stdout") == "42\n"
