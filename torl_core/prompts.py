"""Named prompt templates for base models: Problem -> Prompt."""

from __future__ import annotations

from collections.abc import Mapping

from torl_core.errors import ConfigError
from torl_core.protocols import Codec
from torl_core.types import Problem, Prompt

_QUESTION = "<question>"

TEMPLATES: Mapping[str, str] = {
    # ToRL, arXiv 2503.23383, section 2.
    "torl": (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it.\n"
        "User: Please integrate natural language reasoning with programs to solve the problem above, "
        "and put your final answer within \\boxed{}.\n"
        "<question>\n"
        "Assistant:"
    ),
    "short": "User: <question>\nAssistant:",
}
"""`<question>` stands for the problem's statement."""


def make_prompt(problem: Problem, template: str, codec: Codec) -> Prompt:
    """Put `problem` into the named template and tokenise it as plain text. Raises ConfigError for an unknown name."""
    return Prompt(problem.problem_id, template, codec.encode(prompt_text(problem, template)))


def prompt_text(problem: Problem, template: str) -> str:
    """`problem` in the named template. Raises ConfigError for an unknown name."""
    if template not in TEMPLATES:
        raise ConfigError(
            f"rollout.template is {template!r}",
            "a prompt template is chosen by its name",
            f"use one of {', '.join(TEMPLATES)}, or add yours to torl_core/prompts.py",
        )
    before, _, after = TEMPLATES[template].partition(_QUESTION)
    return before + problem.statement + after
