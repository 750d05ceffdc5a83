"""A byte-level Qwen2 tokenizer made on the spot: 256 bytes, two special tokens, tokens that merge marks of a call."""

from __future__ import annotations

from typing import Any

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
