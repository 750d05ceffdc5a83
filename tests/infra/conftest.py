"""A small campaign on a real model folder of random weights, for what is checked and recorded before any step."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

WINDOW = 1024
"""Of the model made here."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.torl_core.episode_kit import build_tokenizer
    from torl_core.toy.base import new_model

    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer()
    new_model(tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def values(tmp_path: Path, model: Path) -> dict[str, Any]:
    """A campaign without the tool, so that no sandbox starts: a prompt has 112 tokens at most, in a benchmark 208."""
    return {
        "name": "small",
        "store": str(tmp_path / "store"),
        "steps": 1,
        "model": {"path": str(model), "dtype": "float32"},
        "problems": {"location": rows(tmp_path / "train.jsonl", ["1+1?", "2+2?", "3+3?"])},
        "rollout": {"template": "short", "problems_per_step": 2, "samples_per_problem": 2, "max_new_tokens": 48},
        "tool": {"max_calls": 0},
        "engine": {"max_model_len": 256},
        "trainer": {"row_tokens": 160},
    }


def rows(path: Path, statements: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"problem": text, "answer": "2"}) + "\n" for text in statements))
    return str(path)
