"""An engine that plays answers from a script: for developing and testing episodes without a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from torl_core.engines.contract import closed_error, finish_of, new_token_limit
from torl_core.errors import EngineError
from torl_core.protocols import Codec, Generate, Generated, Sampling
from torl_core.types import TokenIds

Reply = str | TokenIds
"""Text is encoded as plain text; give token ids to play special tokens or an odd tokenisation."""

Script = Callable[[TokenIds], Reply] | Mapping[TokenIds, Reply]
"""What is said after a context. A mapping has no answer for other contexts, which is an EngineError."""


class ScriptedEngine:
    """Plays a reply token by token as if it were sampled: a stop string, end-of-text or the limit ends it.

    Where the reply runs out first, end-of-text follows. A script is certain of itself: every log-probability is 0.
    `delay_s` is how long each answer takes.
    """

    def __init__(
        self,
        script: Script,
        codec: Codec,
        *,
        version: int = 0,
        window: int = 1 << 20,
        vocabulary: int = 1 << 31,
        delay_s: float = 0.0,
    ) -> None:
        self._script, self._codec, self._version, self._delay_s = script, codec, version, delay_s
        self._window, self._vocabulary = window, vocabulary
        self._closed = False

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:  # noqa: ARG002
        if self._closed:
            raise closed_error()
        limit = new_token_limit(request, self._window, self._vocabulary)
        version = self._version
        await asyncio.sleep(self._delay_s)
        if self._closed:
            raise closed_error()
        token_ids: list[int] = []
        for token_id in (*self._reply(request.token_ids), min(self._codec.end_token_ids)):
            token_ids.append(token_id)
            if finish := finish_of(self._codec, token_ids, request.stop, limit):
                return Generated(tuple(token_ids), (0.0,) * len(token_ids), finish, version)
        raise AssertionError("an end-of-text token always finishes")

    async def load_policy(self, weights: Path, version: int) -> None:  # noqa: ARG002
        """The script stays; answers carry the new version."""
        if self._closed:
            raise closed_error()
        self._version = version

    async def close(self) -> None:
        self._closed = True

    def _reply(self, context: TokenIds) -> TokenIds:
        if callable(self._script):
            reply = self._script(context)
        elif context in self._script:
            reply = self._script[context]
        else:
            raise EngineError(
                f"the script has no answer for the context {self._codec.decode(context)!r}",
                "a scripted engine says what its script holds",
                "add that context to the script",
                retryable=False,
            )
        return self._codec.encode(reply) if isinstance(reply, str) else reply
