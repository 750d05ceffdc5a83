"""A small tokenizer made on the spot, and one episode played against given answers."""

from __future__ import annotations

from typing import Any

import pytest

from torl_core.codec import HfCodec
from torl_core.config import ToolConfig
from torl_core.protocols import Generated
from torl_core.rollout import Attempt, episode
from torl_core.types import CallStatus, Prompt, ToolCall, Trajectory

END, IM_END = 256, 257
ODD_TOKENS = [
    "```python\n",
    "```output",
    "```output\n",
    "\n```output\n",
    "put",
    "``",
    "output s",
    "```\n```out",
    "Answer: ",
]
"""Ordinary tokens under which the same text has many tokenisations, some across the edges of ```` ```output ````."""


def build_tokenizer(extra_plain_tokens: list[str] = []) -> Any:  # noqa: B006
    """Byte-level Qwen2: 256 bytes, two special tokens, and `ODD_TOKENS`."""
    from tokenizers import AddedToken, pre_tokenizers
    from transformers import Qwen2Tokenizer

    end = "<|endoftext|>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(
        vocab={character: i for i, character in enumerate(alphabet)},
        merges=[],
        unk_token=end,
        eos_token=end,
        pad_token=end,
    )
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=True, normalized=False)], special_tokens=True)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in [*ODD_TOKENS, *extra_plain_tokens]])
    return tokenizer


CODEC = HfCodec(build_tokenizer())
PROMPT = Prompt("p1", "short", CODEC.encode("User: 1 + 1?\nAssistant:"))
ATTEMPT = Attempt(PROMPT, "t1", "g1")
BLOCK = "```python\nprint(1 + 1)\n```\n"


def generated(*parts: str | int, finish: Any = None, version: int = 0) -> Generated:
    """What an engine returns: text is encoded, numbers are tokens as they are; log-probabilities -1, -2, ..."""
    ids = tuple(i for part in parts for i in (CODEC.encode(part) if isinstance(part, str) else (part,)))
    finish = finish or ("end" if ids[-1] in CODEC.end_token_ids else "stop")
    return Generated(ids, tuple(-1.0 - n for n in range(len(ids))), finish, version)


def ran(stdout: str, status: CallStatus = "ok", stderr: str = "") -> ToolCall:
    return ToolCall("print(1 + 1)", status, stdout, stderr, 0.01)


def answer(
    *answers: Generated | ToolCall, calls: int = 1, budget: int = 1000, **tool: Any
) -> tuple[list[Any], Trajectory]:
    """Play one episode against given answers; returns its requests and the trajectory. All answers must be used."""
    steps = episode(ATTEMPT, ToolConfig(max_calls=calls, **tool), budget, CODEC)
    requests: list[Any] = [next(steps)]
    requests.extend(steps.send(one) for one in answers[:-1])
    with pytest.raises(StopIteration) as ended:
        steps.send(answers[-1])
    return requests, ended.value.value


def texts(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(s.author, CODEC.decode(s.token_ids)) for s in trajectory.segments]
