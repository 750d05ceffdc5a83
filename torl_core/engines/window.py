"""The longest context of a model, read from its configuration alone, so that asking costs no import of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torl_core.errors import DataError

_ALREADY_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of scaled rotary embeddings whose max_position_embeddings is the scaled one (vllm/config/model.py)."""


def window_of(config: Mapping[str, Any]) -> int | None:
    """The longest context (tokens) that a model with this config.json was made for; None where it does not say."""
    text = config.get("text_config") or config
    positions = text.get("max_position_embeddings", text.get("n_positions"))
    if positions is None:
        return None
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    scaled = rope.get("rope_type", rope.get("type")) in _ALREADY_SCALED
    return int(positions * (1 if scaled else rope.get("factor") or 1))


def engine_window(max_model_len: int | None, config: Mapping[str, Any]) -> int:
    """The longest context (tokens) an engine is opened for. Raises DataError where nobody names one."""
    window = max_model_len or window_of(config)
    if window is None:
        raise DataError(
            "config.json of the model has no max_position_embeddings, and engine.max_model_len is not set",
            "An engine's window is engine.max_model_len, or else the model's own",
            "Set engine.max_model_len",
        )
    return window
