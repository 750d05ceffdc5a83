"""What both learners do alike with one update: micro-batches, loss, statistics. Torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torl_core.config import AlgorithmConfig
from torl_core.errors import LearnerError
from torl_core.losses import policy_loss, trained_tokens
from torl_core.protocols import UpdateStats
from torl_core.types import Batch


@dataclass(frozen=True, slots=True)
class Sums:
    """Over the trained tokens seen so far; a float64 vector, so that it adds up the same however it was cut."""

    values: Tensor  # (5) loss, clipped, approx_kl, entropy, tokens

    @classmethod
    def zero(cls) -> Sums:
        return cls(torch.zeros(5, dtype=torch.float64))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.values + other.values)

    def stats(self, loss_denominator: int, grad_norm: float | None) -> UpdateStats:
        """`grad_norm` None: the update was skipped."""
        loss, clipped, approx_kl, entropy, tokens = self.values.tolist()
        share = 1 / max(1.0, tokens)
        return UpdateStats(
            loss / max(1, loss_denominator), grad_norm or 0.0, clipped * share, approx_kl * share, entropy * share,
            int(tokens), skipped=grad_norm is None,
        )  # fmt: skip

    def check_finite(self) -> None:
        """Raises LearnerError when the update's loss is not."""
        check_finite("loss", float(self.values[0]))


def make_deterministic(threads: int) -> None:
    """Same batch and state, same bits: a fixed number of CPU threads and deterministic kernels, process-wide."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    torch.set_num_threads(threads)
    # Some attention kernels on GPUs have no deterministic backward pass; they warn instead of stopping the run.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Filling every new tensor first is a debugging aid; on DeepSpeed's buckets it costs more than the training.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def micro_batch_loss(
    policy: nn.Module, batch: Batch, algorithm: AlgorithmConfig, device: torch.device
) -> tuple[Tensor, Sums]:
    """The micro-batch's share of the update's loss (differentiable scalar) and its sums.

    The share is the sum over its tokens divided by the whole update's trainable tokens, so shares add up to the loss
    whichever way rows were cut. Without a trained token it is a differentiable 0.
    """
    tokens, positions, segments, mask, old_logprobs, advantages = (
        torch.from_numpy(array.copy()).to(device)
        for array in (batch.tokens, batch.positions, batch.segments, batch.loss_mask, batch.logprobs, batch.advantages)
    )
    trained = trained_tokens(mask, segments)
    logprobs, entropy = policy(tokens, positions, segments, trained)
    sums = policy_loss(logprobs, old_logprobs[trained], advantages[trained], algorithm.clip_low, algorithm.clip_high)
    entropy_sum, count = entropy.sum(), trained.sum()
    values = torch.stack([v.detach().double() for v in (sums.loss, sums.clipped, sums.approx_kl, entropy_sum, count)])
    return sums.loss / max(1, batch.loss_denominator), Sums(values.cpu())


def check_finite(name: str, value: float) -> None:
    """Raises LearnerError rather than let a bad number into the weights or past the learner."""
    if not torch.isfinite(torch.tensor(value)):
        raise LearnerError(
            f"The update's {name} is {value}",
            "An update is finite",
            "Load the last checkpoint; lower trainer.learning_rate or look for extreme log-probabilities in the batch",
            retryable=False,  # the same batch and state give the same bits
        )


def nothing_loaded() -> LearnerError:
    return LearnerError(
        "Nothing is loaded", "load() comes before update() and save()", "Call load() first", retryable=False
    )
