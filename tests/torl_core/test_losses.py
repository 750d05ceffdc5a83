import math

import pytest
import torch

from torl_core.losses import policy_loss, token_logprobs, trained_tokens


def test_the_first_token_of_a_segment_and_padding_are_never_trained() -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0]])
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert trained_tokens(mask, segments).tolist() == [[False, True, True, False, True, False]]


def test_log_probability_and_entropy_of_a_small_softmax_at_temperature_two() -> None:
    logits = torch.tensor([[0.0, 2 * math.log(3.0)]])  # at temperature 2: weights 1 and 3
    logprobs, entropy = token_logprobs(logits, torch.tensor([1]), lambda h: h, 2.0, chunk_tokens=8)
    assert logprobs.item() == pytest.approx(math.log(0.75))
    assert entropy.item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))


def test_chunks_change_neither_values_nor_gradients() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50)
    targets = torch.randint(0, 50, (37,))
    outcomes = []
    for chunk in (100, 5):
        hidden = torch.linspace(-1, 1, 37 * 8).reshape(37, 8).requires_grad_()
        logprobs, entropy = token_logprobs(hidden, targets, head, 0.7, chunk)
        logprobs.sum().backward()
        outcomes.append((logprobs.detach(), entropy, hidden.grad))
    for whole, cut in zip(*outcomes, strict=True):
        assert whole is not None
        assert torch.allclose(whole, cut, atol=1e-6)


def test_the_clipped_loss_by_hand() -> None:
    old = torch.zeros(4)
    new = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    sums = policy_loss(new, old, advantages, clip_low=0.2, clip_high=0.28)
    # min(1.5, 1.28), min(-1.5, -1.28), min(0.5, 0.8), min(-0.5, -0.8)
    assert sums.loss.item() == pytest.approx(-(1.28 - 1.5 + 0.5 - 0.8))
    assert sums.clipped.item() == 2
    sums.loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([0.0, 1.5, -0.5, 0.0])
    expected_kl = sum(r - 1 - math.log(r) for r in (1.5, 1.5, 0.5, 0.5))
    assert sums.approx_kl.item() == pytest.approx(expected_kl, rel=1e-5)


def test_on_policy_the_gradient_is_the_advantage() -> None:
    new = torch.tensor([-1.0, -2.0]).requires_grad_()
    policy_loss(new, new.detach(), torch.tensor([2.0, -3.0]), 0.2, 0.2).loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == [-2.0, 3.0]


# Reference values in float64: the log-ratio, and ratio - 1 - log-ratio.
KL = {1e-4: 5.0001666708e-09, -1e-4: 4.9998333375e-09, 0.1: 0.00517091807565, -0.1: 0.00483741803596,
      1.0: 0.718281828459, -2.5: 1.58208499862}  # fmt: skip


@pytest.mark.parametrize("log_ratio", KL)
def test_approx_kl_of_float32_log_probabilities(log_ratio: float) -> None:
    new = torch.full((1000,), log_ratio)
    sums = policy_loss(new, torch.zeros(1000), torch.ones(1000), 0.2, 0.2)
    assert sums.approx_kl.item() / 1000 == pytest.approx(KL[log_ratio], rel=1e-6)


# Logits and their entropy; reference values in float64.
ENTROPIES = [
    ([10000.25, 10001.5, 9999.0], 0.7254041959768074),
    ([-8000.0, -8001.0, -8000.5], 1.0201913367272937),
    ([50.0, 50.0, -50.0], 0.6931471805599472),
    ([-700.0, 0.0, 0.0], 0.6931471805599453),
    ([0.0, 80.0, 1.0, 2.0], 0.0),
    ([0.0, 0.0, -math.inf], math.log(2)),
]


@pytest.mark.parametrize(("logits", "expected"), ENTROPIES)
def test_entropy_of_float32_logits_far_from_zero(logits: list[float], expected: float) -> None:
    _, entropy = token_logprobs(torch.tensor([logits]), torch.tensor([0]), lambda h: h, 1.0, chunk_tokens=8)
    assert entropy.item() == pytest.approx(expected, abs=1e-6)


def test_a_common_offset_of_the_logits_does_not_move_the_entropy() -> None:
    logits = torch.linspace(-3, 3, 5000).reshape(5, 1000)
    values = [token_logprobs(logits + c, torch.zeros(5, dtype=torch.int64), lambda h: h, 1.0, 8)[1] for c in (0, 300)]
    assert torch.allclose(*values, rtol=0, atol=2e-5)
