"""How long prompts are, and which leave no room for a whole response in the model's context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from infra.models import model_window
from torl_core.codec import HfCodec, load_codec
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError
from torl_core.prompts import prompt_text
from torl_core.types import Problem


class PromptRoom:
    """The model whose prompts are measured, fetched and read when the first one is."""

    def __init__(self, config: CampaignConfig, folder: Callable[[], Path]) -> None:
        self._config, self._folder = config, folder

    @cached_property
    def folder(self) -> Path:
        return self._folder()

    def too_long(self, problems: Sequence[Problem], row_tokens: int | None) -> Mapping[int, str]:
        """{index: reason} of the problems whose prompts leave no room for a whole response."""
        room, why = _room(self._config, self._window, row_tokens)
        return _reasons(self.codec.longer_than(self._texts(problems), room), why)

    def measured(self, problems: Sequence[Problem], row_tokens: int | None) -> tuple[list[int], Mapping[int, str]]:
        """(tokens of each problem's prompt, what `too_long` says)"""
        room, why = _room(self._config, self._window, row_tokens)
        lengths = self.codec.lengths(self._texts(problems))
        return lengths, _reasons({i: length for i, length in enumerate(lengths) if length > room}, why)

    def _texts(self, problems: Sequence[Problem]) -> list[str]:
        return [prompt_text(problem, self._config.rollout.template) for problem in problems]

    @cached_property
    def codec(self) -> HfCodec:
        return load_codec(self.folder)

    @cached_property
    def _window(self) -> int | None:
        window, asked = model_window(self.folder), self._config.engine.max_model_len
        if window is not None and asked is not None and asked > window:
            raise ConfigError(
                f"engine.max_model_len is {asked} and the model's own window (config.json) is {window} tokens",
                "An engine's window lies within the model's",
                f"Lower engine.max_model_len to {window} or less, or leave it out",
            )
        return window


def _reasons(lengths: Mapping[int, int], why: str) -> dict[int, str]:
    return {i: f"its prompt has {length} tokens, {why}" for i, length in lengths.items()}


def _room(config: CampaignConfig, window: int | None, row_tokens: int | None) -> tuple[int, str]:
    """The most tokens a prompt may have, and why. Raises ConfigError where no prompt leaves room for a response."""
    limits = {
        "trainer.row_tokens": row_tokens,
        "engine.max_model_len": config.engine.max_model_len,
        "the model's window": window,
    }
    named = [(limit, name) for name, limit in limits.items() if limit is not None]
    if not named:
        raise ConfigError(
            "engine.max_model_len is not set, and config.json of the model has no max_position_embeddings",
            "The length of prompts is checked against the engine's window",
            "Set engine.max_model_len",
        )
    (limit, name), budget = min(named), config.rollout.max_new_tokens
    if limit <= budget:
        raise ConfigError(
            f"rollout.max_new_tokens is {budget} and {name} is {limit}",
            "A prompt and the whole budget of its response fit into the model's context",
            f"Lower rollout.max_new_tokens, or raise {name}" if "." in name else "Lower rollout.max_new_tokens",
        )
    return limit - budget, f"and {name} ({limit}) less rollout.max_new_tokens ({budget}) leaves {limit - budget}"
