"""Token log-probabilities and the clipped token-level policy-gradient loss. Torch.

Shapes: N trained tokens of a micro-batch, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def trained_tokens(loss_mask: Tensor, segments: Tensor) -> Tensor:
    """(B, L) True at tokens that carry loss: masked in, and with a token of the same segment to be predicted from."""
    continues = torch.zeros_like(loss_mask)
    continues[:, 1:] = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    return loss_mask & continues


def token_logprobs(
    hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], temperature: float, chunk_tokens: int
) -> tuple[Tensor, Tensor]:
    """Log-probability (N) of each target under softmax(head(hidden) / temperature), and that softmax's entropy (N).

    hidden (N, H) stands one token before its target (N). `head` maps (n, H) to logits (n, V). More than `chunk_tokens`
    tokens go through in chunks whose logits are computed again in the backward pass, so that (chunk_tokens, V) is the
    most that is held at a time. The entropy is a statistic and has no gradient. Computed in float32.
    """

    def of(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden).float() / temperature
        normaliser = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
        return chosen - normaliser, entropy

    if len(targets) <= chunk_tokens:
        return of(hidden, targets)
    parts = [
        checkpoint(of, h, t, use_reentrant=False, preserve_rng_state=False)
        for h, t in zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over tokens; `loss` carries the gradient, the rest are statistics (scalars, detached)."""

    loss: Tensor
    clipped: Tensor
    approx_kl: Tensor


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> LossSums:
    """PPO's clipped surrogate (arXiv 1707.06347, eq. 7) per token, summed; all arguments (N).

    -min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) with ratio = exp(logprobs - old_logprobs). `clipped`
    counts tokens whose gradient the clip took away; `approx_kl` sums the k3 estimate ratio - 1 - log ratio of
    KL(old || new) (http://joschu.net/blog/kl-approx.html). The caller divides by the update's trainable tokens.
    """
    # exp(20) is past any clip and keeps a stray token from turning into infinity times zero.
    log_ratio = (logprobs - old_logprobs).clamp(-20.0, 20.0)
    ratio = log_ratio.exp()
    free, limited = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    with torch.no_grad():
        clipped = (limited < free).sum()
        exact = log_ratio.double()  # both terms are about equal: in float32 their difference is mostly rounding
        approx_kl = (exact.expm1() - exact).sum()
    return LossSums(-torch.minimum(free, limited).sum(), clipped, approx_kl)
