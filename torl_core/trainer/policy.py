"""The model as training sees it: packed rows in, log-probabilities of trained tokens out. The transformers adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import is_flash_attn_2_available

from torl_core.errors import DataError
from torl_core.losses import token_logprobs
from torl_core.model_folder import GENERATION_CONFIG, check_model_folder, copy_beside_weights, load_model
from torl_core.trainer.checkpoint import require_finite

CHUNK_LOGITS = 2**27
"""Logits held at once: 0.5 GiB in float32, where one row of 4,096 tokens and 152k vocabulary entries would be 2.3."""


class PackedPolicy(nn.Module):
    """A causal language model over packed rows, with attention that never leaves a segment.

    Exactness comes from positions that restart with each segment and either variable-length flash attention (GPU, where
    installed) or a block-diagonal causal mask.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.chunk_tokens = max(1, CHUNK_LOGITS // model.config.vocab_size)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor, trained: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability (N) and entropy (N) of the N tokens marked in `trained`, in row-major order.

        All arguments are (B, L).
        """
        hidden = self._hidden(tokens, positions, segments)
        before, marked = hidden[:, :-1], trained[:, 1:]
        head = self.model.get_output_embeddings()
        return token_logprobs(before[marked], tokens[:, 1:][marked], head, self.temperature, self.chunk_tokens)

    def _hidden(self, tokens: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        body = self.model.base_model
        if self.model.config._attn_implementation == "flash_attention_2":
            # One long row: the restarts of the positions are the boundaries.
            flat = body(input_ids=tokens.reshape(1, -1), position_ids=positions.reshape(1, -1), use_cache=False)
            return flat.last_hidden_state.reshape(*tokens.shape, -1)  # type: ignore[no-any-return]
        mask = attention_mask(segments)
        return body(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state  # type: ignore[no-any-return]


def attention_mask(segments: Tensor) -> Tensor:
    """(B, 1, L, L) True where a query may see a key: same segment, not later. Padding sees padding: no empty row."""
    same = segments.unsqueeze(2) == segments.unsqueeze(1)
    return same.tril().unsqueeze(1)


def load_policy(folder: Path, dtype: str, temperature: float, gradient_checkpointing: bool) -> PackedPolicy:
    """The policy of a Hugging Face folder, on the CPU, in `dtype`. Raises DataError for one that cannot be used."""
    check_model_folder(folder)
    flash = torch.cuda.is_available() and dtype == "bfloat16" and is_flash_attn_2_available()
    model = load_model(folder, dtype, attn_implementation="flash_attention_2" if flash else "sdpa")
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise DataError(
            f"{folder} has sliding-window layers", "Packed rows use full attention", "Set use_sliding_window to false"
        )
    # Evaluation mode: the policy that is trained is the one that was sampled, without dropout.
    model.eval()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.training = True  # checkpointing looks at the layer's own flag; its children stay in evaluation
    return PackedPolicy(model, temperature)


def write_model_folder(folder: Path, model: Any, weights: Mapping[str, Tensor], source: Path) -> None:
    """Write `weights` as a Hugging Face folder that takes everything but weights and config from `source`.

    `model` is from `load_model`. Raises LearnerError for a weight that is not finite.
    """
    require_finite(weights)
    model.save_pretrained(folder, state_dict=dict(weights))
    # transformers wrote an empty one in its place, and what counts is what the model's authors wrote.
    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    copy_beside_weights(source, folder)
