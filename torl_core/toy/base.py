"""The demo's base model: a tiny Qwen2, pretrained for a moment on the synthetic mixture."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

from torl_core.modes import share
from torl_core.packing import pack
from torl_core.toy.corpus import Document, document
from torl_core.toy.tokenizer import build_tokenizer
from torl_core.trainer.policy import PackedPolicy
from torl_core.types import Sample

STEPS = 1500
DOCUMENTS_PER_STEP = 32
LEARNING_RATE = 3e-3
WARMUP_STEPS = 50
ROW_TOKENS = 64
"""Length of a packed row; longer than any document."""

Progress = Callable[[int, int, float], None]
"""Called after every step with steps done, steps in all, and that step's loss."""


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A small Qwen2 with random float32 weights, the same for the same seed.

    Embeddings are untied: an engine that reloads tied weights while running can go on with its old output head.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.06,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def build_base(folder: Path, seed: int, progress: Progress | None = None, steps: int = STEPS) -> None:
    """Pretrain and write a Hugging Face folder that transformers and vLLM load as it is.

    `folder` appears complete or not at all; one that is there already is left as it is.
    """
    if folder.exists():
        return
    tokenizer = build_tokenizer()
    model = new_model(tokenizer, seed)
    pretrain(model, tokenizer, seed, steps, progress)
    unfinished = folder.with_name(f".{folder.name}-unfinished")  # a fixed name: what was killed here is replaced
    shutil.rmtree(unfinished, ignore_errors=True)
    logging.disable_progress_bar()
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        share(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def pretrain(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, steps: int, progress: Progress | None = None
) -> None:
    """Next-token training on what the model writes of the documents; the learning rate is warmed up, then falls."""
    policy = PackedPolicy(model, temperature=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP_STEPS, 1 - step / steps)
    )
    for step in range(steps):
        indices = range(step * DOCUMENTS_PER_STEP, (step + 1) * DOCUMENTS_PER_STEP)
        batch = pack(encode([document(seed, index) for index in indices], tokenizer), ROW_TOKENS)
        logprobs, _ = policy(*map(torch.from_numpy, (batch.tokens, batch.positions, batch.segments, batch.loss_mask)))
        loss = -logprobs.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if progress:
            progress(step + 1, steps, loss.item())


def encode(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> list[Sample]:
    """Documents as an episode would hold them: every piece of text encoded on its own, an end-of-text token at the end.

    The mask covers what the model writes. Log-probabilities and advantages are not those of any policy.
    """
    pieces = [text for d in documents for text in (d.prompt, *(text for _, text in d.segments))]
    encoded = iter(tokenizer(pieces, add_special_tokens=False, split_special_tokens=True).input_ids)
    samples = []
    for d in documents:
        ids = list(next(encoded))
        mask = [False] * len(ids)
        for author, _ in d.segments:
            segment = next(encoded)
            ids += segment
            mask += [author == "model"] * len(segment)
        ids.append(tokenizer.eos_token_id)
        mask.append(True)
        samples.append(Sample(d.prompt, np.array(ids), np.array(mask), np.zeros(len(ids), np.float32), advantage=1.0))
    return samples
