"""The seams: Generator, Sandbox, Learner, and the tokenizer's verbs. One conformance suite per protocol holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torl_core.types import Batch, Finish, TokenIds, ToolCall


class Codec(Protocol):
    """A tokenizer as the episode sees it."""

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Tokens that end a response when sampled."""
        ...

    def encode(self, text: str) -> TokenIds:
        """Tokens of `text` as plain text: a special token's spelling becomes ordinary tokens, nothing is added."""
        ...

    def decode(self, token_ids: TokenIds) -> str:
        """The text view. Special tokens appear as spelled; undecodable bytes become U+FFFD. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Generate:
    """An episode's request to go on from `token_ids` (the whole context).

    Generation halts at the first token with which the decoded *new* text contains one of `stop`; that token, whole, is
    the last one returned.
    """

    token_ids: TokenIds
    max_new_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Execute:
    """An episode's request to run `code`; it is answered with a ToolCall."""

    code: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy. `seed` decides the draw, None leaves it to the engine."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """`token_ids` as sampled, end-of-text included; `logprobs` under temperature and before top_p's truncation."""

    token_ids: TokenIds
    logprobs: tuple[float, ...]
    finish: Finish
    policy_version: int


class Generator(Protocol):
    """An inference engine. Any number of `generate` calls may be in flight on one event loop."""

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:
        """Raises EngineError; an engine that died fails every waiting call instead of leaving it hanging."""
        ...

    async def load_policy(self, weights: Path, version: int) -> None:
        """Put the weights of a Hugging Face folder into the running engine and forget every cached prefix.

        Call it with no generation in flight. Raises EngineError where the update cannot be shown to be right.
        """
        ...

    async def close(self) -> None: ...


class Sandbox(Protocol):
    """Runs untrusted code. Any number of `execute` calls may be in flight."""

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        """Raises SandboxUnavailable when the sandbox itself failed, after its own retries."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """Statistics of one optimizer update, over all its trainable tokens.

    `skipped`: no token had a gradient, so weights and optimizer state are what they were; the update is not counted.
    """

    loss: float
    grad_norm: float
    clip_fraction: float
    approx_kl: float
    entropy: float
    trained_tokens: int
    skipped: bool = False


class Learner(Protocol):
    """Holds weights and optimizer state, and applies updates. All calls block."""

    def load(self, weights: Path, optimizer: Path | None) -> None:
        """Start from a Hugging Face folder; `optimizer` None means a fresh one. Raises LearnerError, DataError."""
        ...

    def update(self, batch: Batch, learning_rate: float) -> UpdateStats:
        """One optimizer update on the whole batch, cut into micro-batches inside. Raises LearnerError.

        A batch that gives no token a gradient (`has_signal` is False) changes neither weights nor optimizer state.
        """
        ...

    def save(self, weights: Path, optimizer: Path) -> None:
        """Write a Hugging Face folder (usable as it is) and, beside it, the optimizer state. Raises LearnerError."""
        ...

    def close(self) -> None: ...
