"""What a campaign would make of its problems, without starting one."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.lineage import fork_folder, pin
from infra.models import tokenizer_folder
from infra.problems import Loaded, Rejected, label_of, load_problems
from infra.progress import say
from infra.prompt_room import PromptRoom
from infra.settings import apply_overrides, load_campaign, parse
from torl_core.config import CampaignConfig, ProblemsConfig
from torl_core.curriculum import chosen_problems
from torl_core.errors import TorlError
from torl_core.prompts import prompt_text
from torl_core.types import Problem

_NO_MODEL = "none"
_BARE = {"name": "problems", "store": "unused", "steps": 1, "model": {"path": _NO_MODEL}}
"""What else a config must have, where only a location is given."""
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of prompts."""

    unit: str
    shortest: int
    median: float
    longest: int


@dataclass(frozen=True, slots=True)
class Source:
    problems: int
    rejected: int
    lengths: Lengths | None
    """None where the source has no usable row."""


@dataclass(frozen=True, slots=True)
class Sample:
    problem_id: str
    source: str
    answer: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Survey:
    """One set of problems: a campaign's own or a benchmark's."""

    setting: str
    location: str
    columns: Mapping[str, str]
    """What was taken, by location."""
    digest: str
    problems: int
    rejected: int
    sources: Mapping[str, Source]
    reasons: Mapping[str, int]
    """How many rows were rejected for each; what differs from row to row in a reason is shown as …"""
    first_rejected: Sequence[Rejected]
    first_step: Mapping[str, int]
    """How many problems of each source the first step has. Empty for a benchmark and for a location alone."""
    refusals: Sequence[str]
    """Why a campaign would not start with these problems."""
    samples: Sequence[Sample]


def survey(target: str, overrides: Sequence[str] = (), samples: int = 2) -> list[Survey]:
    """Of the problems in a campaign's YAML, or of a location alone. Overrides have the keys of a campaign.

    Prompts are measured in tokens where the model's tokenizer can be read, otherwise in characters. Raises ConfigError
    and DataError where a campaign's problems cannot be read at all.
    """
    is_config = target.endswith((".yaml", ".yml"))
    config = load_campaign(Path(target), overrides) if is_config else _bare(target, overrides)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="torl-tokenizer-")))
        room = _room(config, scratch, required=any(one.partition("=")[0] == "model.path" for one in overrides))
        found = [_of(config, "problems", config.problems, room, config.trainer.row_tokens, is_config, samples)]
        for name, one in config.evaluation.benchmarks.items():
            setting = f"evaluation.benchmarks.{name}.problems"
            found.append(_of(config, setting, one.problems, room, None, False, samples))
        return found


def _bare(location: str, overrides: Sequence[str]) -> CampaignConfig:
    values = apply_overrides({**_BARE, "problems": {"location": location}}, overrides)
    return parse(CampaignConfig, values, location, overrides=overrides)


def _room(config: CampaignConfig, scratch: Path, required: bool) -> PromptRoom | None:
    """None, which is said, where no tokenizer can be read and the command names none itself."""
    if config.model.path == _NO_MODEL and config.fork is None:
        return None
    try:
        folder = fork_folder(pin(config)) if config.fork else tokenizer_folder(config.model.path, scratch)
        room = PromptRoom(config, lambda: folder)
        _ = room.codec  # reads the tokenizer
    except TorlError as error:
        if required:
            raise
        say(f"Prompts are measured in characters, and none is rejected for its length: {error}", "yellow")
        return None
    return room


def _of(
    config: CampaignConfig,
    setting: str,
    problems: ProblemsConfig,
    room: PromptRoom | None,
    row_tokens: int | None,
    in_steps: bool,
    samples: int,
) -> Survey:
    tokens: dict[str, int] = {}

    def too_long(some: Sequence[Problem]) -> Mapping[int, str]:
        if room is None:
            return {}
        lengths, reasons = room.measured(some, row_tokens)
        tokens.update(zip((problem.problem_id for problem in some), lengths, strict=True))
        return reasons

    loaded = load_problems(_tolerant(problems), too_long)
    prompts = [prompt_text(problem, config.rollout.template) for problem in loaded.problems]
    lengths = [tokens.get(one.problem_id, len(prompt)) for one, prompt in zip(loaded.problems, prompts, strict=True)]
    step, refusals = _first_step(config, loaded) if in_steps else ({}, [])
    every = max(1, len(prompts) // max(1, samples))
    return Survey(
        setting=setting,
        location=problems.where,
        columns={location: str(columns) for location, columns in loaded.taken.items()},
        digest=loaded.digest,
        problems=len(prompts),
        rejected=len(loaded.rejected),
        sources=_sources(loaded, lengths, "tokens" if room else "characters"),
        reasons=dict(Counter(_kind(row.reason) for row in loaded.rejected).most_common()),
        first_rejected=loaded.rejected[:_SHOWN],
        first_step=step,
        refusals=[*_refused(problems, loaded, setting), *refusals],
        samples=[_sample(loaded.problems[i], prompts[i]) for i in range(0, len(prompts), every)][:samples],
    )


def _tolerant(problems: ProblemsConfig) -> ProblemsConfig:
    """All rejected rows are wanted, and not only that there are some."""
    sources = tuple(source.model_copy(update={"skip_rejected": True}) for source in problems.each)
    return ProblemsConfig(sources=sources) if problems.sources else problems.model_copy(update={"skip_rejected": True})


def _sources(loaded: Loaded, lengths: Sequence[int], unit: str) -> dict[str, Source]:
    by_source: dict[str, list[int]] = {}
    for problem, length in zip(loaded.problems, lengths, strict=True):
        by_source.setdefault(problem.source, []).append(length)
    rejected = Counter(row.source for row in loaded.rejected)
    by_source |= {name: [] for name in rejected if name not in by_source}
    return {name: Source(len(own), rejected[name], _lengths(own, unit)) for name, own in by_source.items()}


def _lengths(lengths: Sequence[int], unit: str) -> Lengths | None:
    return Lengths(unit, min(lengths), statistics.median(lengths), max(lengths)) if lengths else None


def _kind(reason: str) -> str:
    """The reason without what is of this row alone: quoted text, places and numbers."""
    return re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+:\d+\b|\b\d+\b", "…", reason)


def _first_step(config: CampaignConfig, loaded: Loaded) -> tuple[dict[str, int], list[str]]:
    try:
        chosen = chosen_problems(config, loaded.problems, 1)
    except TorlError as error:
        return {}, [str(error)]
    return dict(sorted(Counter(problem.source for problem in chosen).items())), []


def _refused(problems: ProblemsConfig, loaded: Loaded, setting: str) -> list[str]:
    strict = {label_of(source) for source in problems.each if not source.skip_rejected}
    stopping = sum(row.source in strict for row in loaded.rejected)
    found = [f"{stopping} rejected rows stop a campaign, unless skip_rejected is set"] if stopping else []
    if problems.digest not in (None, loaded.digest):
        found.append(f"{setting}.digest is {problems.digest}, and the digest of these problems is {loaded.digest}")
    return found


def _sample(problem: Problem, prompt: str) -> Sample:
    return Sample(problem.problem_id, problem.source, problem.answer, prompt)
