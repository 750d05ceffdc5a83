"""The datum: Problem -> Prompt -> Trajectory -> Reward -> Sample -> Batch -> Policy.

State is token ids; text is a view of it. Entry t of every per-token array describes token t. Suffix shapes: `T` tokens
of one trajectory (prompt included), `t` tokens of one segment, `B` rows, `L` row length. Units stand in names (`_s`,
`_bytes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

TokenIds = tuple[int, ...]

Author = Literal["model", "tool"]

CallStatus = Literal["ok", "error", "timeout", "memory", "output_limit", "crash"]
"""How a snippet ended. What the sandbox itself got wrong is not a status of a call: it is `SandboxUnavailable`."""

Stop = Literal["end", "length"]
"""Why a trajectory ended: the model sampled its end-of-text token, or the token budget was used up."""

Finish = Literal["end", "stop", "length"]
"""Why one generation ended: end-of-text sampled, a stop string completed, or `max_new_tokens` reached."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with a verifiable answer. `answer` is LaTeX or plain text without `\\boxed`."""

    problem_id: str
    statement: str
    answer: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem put into a named template and tokenised once."""

    problem_id: str
    template: str
    token_ids: TokenIds


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens by one author. `logprobs` (t) is None exactly when the author is the tool."""

    author: Author
    token_ids: TokenIds
    logprobs: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One executed snippet. `stdout` and `stderr` are already capped by the sandbox, the cut marked in the text.

    `duration_s` is wall time of the snippet itself, `queued_s` the time it waited for a worker. `exit_code` is the
    process's own, negative for a signal, None when it was killed by the sandbox. `blocks` is how many blocks of the
    response the code is made of; None where nobody counted (an earlier version of torl, or the sandbox on its own).
    """

    code: str
    status: CallStatus
    stdout: str
    stderr: str
    duration_s: float
    queued_s: float = 0.0
    exit_code: int | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where one trajectory's wall time went, in seconds."""

    generate_s: float = 0.0
    execute_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One response to one prompt: what the model sampled and what the tool answered, in order.

    `refused_calls` counts requests that were not executed, because generation no longer stopped at them (past C, for
    one). `discarded_tokens` counts tokens an engine returned
    behind the token that completed a call; they are in no segment (an engine that keeps its contract returns none).
    `dialect` is the version of the tool protocol; None where an earlier version of torl, which knew only 1, stored it.
    """

    trajectory_id: str
    group_id: str
    policy_version: int
    prompt: Prompt
    segments: tuple[Segment, ...]
    tool_calls: tuple[ToolCall, ...]
    stop: Stop
    refused_calls: int = 0
    discarded_tokens: int = 0
    timing: Timing = Timing()
    dialect: int | None = None

    @property
    def token_ids(self) -> TokenIds:
        """(T) prompt, then every segment."""
        return self.prompt.token_ids + tuple(i for s in self.segments for i in s.token_ids)

    @property
    def loss_mask(self) -> tuple[bool, ...]:
        """(T) True exactly at tokens the model sampled."""
        head = (False,) * len(self.prompt.token_ids)
        return head + tuple(s.author == "model" for s in self.segments for _ in s.token_ids)

    @property
    def logprobs(self) -> tuple[float, ...]:
        """(T) log-probability under the sampling policy; 0.0 where the mask is False."""
        head = (0.0,) * len(self.prompt.token_ids)
        return head + tuple(p for s in self.segments for p in (s.logprobs or (0.0,) * len(s.token_ids)))


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict on one response. `correct` is None when it could not be judged; that is not the same as wrong.

    `grader` is the version of the grader that gave it; None where nobody recorded it (an earlier version of torl, or
    the grader on its own).
    """

    correct: bool | None
    extracted: str | None
    reason: str
    grader: str | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """Named terms; the value is their sum. A response that could not be graded has no Reward, rather than 0."""

    terms: Mapping[str, float]

    @property
    def value(self) -> float:
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True)
class Sample:
    """What training needs of one trajectory. Arrays are (T)."""

    trajectory_id: str
    token_ids: npt.NDArray[np.int64]
    loss_mask: npt.NDArray[np.bool_]
    logprobs: npt.NDArray[np.float32]
    advantage: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one optimizer update packed into rows. Every array is (B, L).

    `segments` numbers the samples of a row from 1, 0 is padding: attention never crosses a change of segment.
    `positions` restart at 0 with each segment. `loss_denominator` counts the trainable tokens of the whole update, so
    packing, micro-batches and ranks cannot change the loss.
    """

    tokens: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]
    loss_mask: npt.NDArray[np.bool_]
    logprobs: npt.NDArray[np.float32]
    advantages: npt.NDArray[np.float32]
    loss_denominator: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A version of the model: a Hugging Face folder at `weights_uri`, its digest, and the digest it came from."""

    version: int
    weights_uri: str
    digest: str
    parent: str | None = None
