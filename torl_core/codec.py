"""The tokenizer as an episode sees it: plain text in, exact text out, and the tokens that end a response."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torl_core.errors import DataError
from torl_core.types import TokenIds

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BATCH = 2048
"""Texts that are encoded together, so that the memory for their tokens does not grow with their number."""

_PROBE = "1 + 1\n```python\nprint(1)\n```\n```output\n1\n```\n"


class HfCodec:
    """A Hugging Face tokenizer behind the `Codec` protocol.

    No text can become a token that the vocabulary marks as special, nor one that ends a response: that is checked for
    every such token's spelling here, and for every encoding made later. Raises DataError.
    """

    def __init__(self, tokenizer: Any, extra_end_token_ids: frozenset[int] = frozenset()) -> None:
        """`tokenizer`: of transformers. `extra_end_token_ids`: those the model names beside the tokenizer's own."""
        self.tokenizer = tokenizer
        eos = tokenizer.eos_token_id
        self._end_token_ids = extra_end_token_ids | (frozenset() if eos is None else {int(eos)})
        if not self._end_token_ids:
            raise DataError(
                f"the tokenizer {tokenizer.name_or_path!r} names no end-of-text token",
                "a response ends when the model samples its end-of-text token",
                'set "eos_token" in tokenizer_config.json or "eos_token_id" in generation_config.json',
            )
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise DataError(
                f"the tokenizer {tokenizer.name_or_path!r} turns {_PROBE!r} into {self.decode(self.encode(_PROBE))!r}",
                "text that is encoded and decoded must come back unchanged, or tool calls cannot be recognised",
                "check that the folder holds the model's own, complete tokenizer.json",
            )
        for token_id in sorted(self._forbidden):
            self.encode(self.decode((token_id,)))

    @property
    def end_token_ids(self) -> frozenset[int]:
        return self._end_token_ids

    @cached_property
    def _forbidden(self) -> frozenset[int]:
        added = self.tokenizer.added_tokens_decoder
        return self._end_token_ids | {i for i, token in added.items() if token.special}

    def encode(self, text: str) -> TokenIds:
        """Lone surrogates, which UTF-8 cannot hold, become U+FFFD; the tokenizer's normalisation (NFC) applies."""
        text = _LONE_SURROGATE.sub("\ufffd", text)
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
        if not self._forbidden.isdisjoint(ids):
            token_id = next(i for i in ids if i in self._forbidden)
            raise DataError(
                f"the tokenizer encodes plain text as its control token {token_id} ({self.decode((token_id,))!r})",
                "text from problems and tools must never become a special or end-of-text token",
                'mark that token "special": true in tokenizer.json',
            )
        return ids

    def longer_than(self, texts: Sequence[str], limit: int) -> dict[int, int]:
        """{index: tokens} of the texts that `encode` makes more than `limit` tokens of.

        Where every token stands for at least one byte, only texts of more than `limit` bytes are encoded; the tokenizer
        encodes those in parallel.
        """
        plain = [_LONE_SURROGATE.sub("\ufffd", text) for text in texts]
        near = [i for i, text in enumerate(plain) if self._most_tokens(text) > limit]
        lengths = zip(near, self.lengths([plain[i] for i in near]), strict=True)
        return {i: length for i, length in lengths if length > limit}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens `encode` makes of each text."""
        found: list[int] = []
        for start in range(0, len(texts), _BATCH):
            encoded = self.tokenizer(
                [_LONE_SURROGATE.sub("\ufffd", text) for text in texts[start : start + _BATCH]],
                add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False,
            )  # fmt: skip
            found += map(len, encoded["input_ids"])
        return found

    def _most_tokens(self, text: str) -> float:
        """An upper bound of the text's tokens: the bytes of its normal form, where the tokenizer works on bytes."""
        if not self._is_byte_level:
            return math.inf
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        return len((normalizer.normalize_str(text) if normalizer else text).encode())

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether every token stands for at least one byte of the normalised text: it is cut, and nothing is added."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None or backend.pre_tokenizer is None or type(backend.model).__name__ != "BPE":
            return False
        state = json.loads(backend.pre_tokenizer.__getstate__())
        steps = state.get("pretokenizers", [state])
        cuts = all(step["type"] in ("Split", "Digits", "ByteLevel") for step in steps)
        last = steps[-1] if steps else {}
        return cuts and last.get("type") == "ByteLevel" and not any(step.get("add_prefix_space") for step in steps)

    def decode(self, token_ids: TokenIds) -> str:
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)


def load_codec(folder: Path | str) -> HfCodec:
    """The codec of a local model folder. Raises DataError if it has no tokenizer or names no end-of-text token."""
    folder = Path(folder)
    remedy = "copy tokenizer.json and tokenizer_config.json of the base model into it"
    if not folder.is_dir():
        raise DataError(f"no model folder at {str(folder)!r}", "a model is a Hugging Face folder", "check the path")
    try:
        tokenizer = _load_tokenizer(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"no tokenizer could be loaded from {str(folder)!r} ({reason})",
            "a model folder holds its tokenizer",
            remedy,
        ) from error
    # For some architectures transformers makes up an empty tokenizer when a folder has none.
    if not tokenizer.encode("1", add_special_tokens=False):
        raise DataError(
            f"the model folder {str(folder)!r} has no tokenizer", "a model folder holds its tokenizer", remedy
        )
    return HfCodec(tokenizer, _generation_end_tokens(folder))


def _load_tokenizer(folder: Path) -> Any:
    """tokenizer.json as it is. Without one transformers makes one of older files, and needs 5 s of imports for that."""
    if (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast as Tokenizer
    else:
        from transformers import AutoTokenizer as Tokenizer
    return Tokenizer.from_pretrained(str(folder), local_files_only=True)


def _generation_end_tokens(folder: Path) -> frozenset[int]:
    """`eos_token_id` of generation_config.json: absent, one id or a list of ids."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return frozenset()
    try:
        eos = json.loads(path.read_text()).get("eos_token_id")
        return frozenset() if eos is None else frozenset(map(int, eos if isinstance(eos, list) else [eos]))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({error})",
            'it is a JSON object whose "eos_token_id" is a token id or a list of them',
            "repair or delete the file",
        ) from error
