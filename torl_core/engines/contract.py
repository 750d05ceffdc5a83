"""What every engine does alike: refuse what it cannot answer, and know where an answer ends."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from torl_core.errors import EngineError
from torl_core.protocols import Codec, Generate
from torl_core.types import Finish, TokenIds

_MARGIN_CHARS = 8
"""Text in front of the last tokens that may come out otherwise than in the whole text: half a character, a space."""


def new_token_limit(request: Generate, window: int, vocabulary: int) -> int:
    """The most tokens to sample: `max_new_tokens`, or what the context leaves of the model's `window` (tokens).

    Raises EngineError for a request no engine with that window and `vocabulary` (token ids) can answer.
    """
    length = len(request.token_ids)
    if not 0 < length < window:
        raise EngineError(
            f"a context of {length} tokens was sent to an engine with a window of {window} tokens",
            "a context has at least one token and leaves room for at least one more",
            "raise engine.max_model_len if the model allows it, or shorten prompts or rollout.max_new_tokens",
            retryable=False,
        )
    if request.max_new_tokens < 1:
        raise EngineError(
            f"max_new_tokens is {request.max_new_tokens}",
            "at least one token is sampled per request",
            "end the episode instead when its budget is used up",
            retryable=False,
        )
    if "" in request.stop:
        raise EngineError("a stop string is empty", "an empty string is in every text", "leave it out", retryable=False)
    low, high = min(request.token_ids), max(request.token_ids)
    if low < 0 or high >= vocabulary:
        raise EngineError(
            f"token id {low if low < 0 else high} is in the context",
            f"the model knows token ids 0 to {vocabulary - 1}",
            "encode with the tokenizer of the engine's own model folder",
            retryable=False,
        )
    return min(request.max_new_tokens, window - length)


def finish_of(codec: Codec, token_ids: Sequence[int], stop: Sequence[str], limit: int) -> Finish | None:
    """How an answer of these sampled tokens ends with its last one, None if it goes on. End-of-text goes first.

    Whoever samples asks after each token, so that only the last tokens can have completed a stop string.
    """
    if token_ids[-1] in codec.end_token_ids:
        return "end"
    if stop and _ends_with_any(codec, token_ids, stop):
        return "stop"
    return "length" if len(token_ids) >= limit else None


def until_stop(codec: Codec, token_ids: TokenIds, stop: Sequence[str]) -> TokenIds:
    """The tokens up to the first with which the decoded text contains a stop string; all of them if there is none."""
    if not stop or not contains_any(codec, token_ids, stop):
        return token_ids
    if not contains_any(codec, token_ids[:-1], stop):
        return token_ids
    return token_ids[: bisect_left(range(len(token_ids)), True, key=lambda k: contains_any(codec, token_ids[:k], stop))]


def _ends_with_any(codec: Codec, token_ids: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether the last token completed a stop string. Decodes the last tokens alone, however long the answer is."""
    wanted = _MARGIN_CHARS + max(map(len, stop))
    count = 2 * wanted
    text = codec.decode(tuple(token_ids[-count:]))
    while len(text) < wanted and count < len(token_ids):  # tokens without text
        count *= 2
        text = codec.decode(tuple(token_ids[-count:]))
    return any(s in text for s in stop)


def contains_any(codec: Codec, token_ids: Sequence[int], stop: Sequence[str]) -> bool:
    text = codec.decode(tuple(token_ids))
    return any(s in text for s in stop)


def closed_error() -> EngineError:
    return EngineError("the engine is closed", "a closed engine generates nothing", "open a new one")
