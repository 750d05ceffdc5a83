"""The plain torch learner, in this process: what DeepSpeed's updates are compared with, and enough for small models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from torl_core.config import AlgorithmConfig, TrainerConfig
from torl_core.packing import has_signal, micro_batches
from torl_core.protocols import UpdateStats
from torl_core.trainer import checkpoint
from torl_core.trainer.policy import PackedPolicy, load_policy, write_model_folder
from torl_core.trainer.steps import Sums, check_finite, make_deterministic, micro_batch_loss, nothing_loaded
from torl_core.types import Batch


class ReferenceLearner:
    """AdamW on float32 masters; the model computes in `dtype`. Sets torch's thread count for the whole process."""

    def __init__(self, trainer: TrainerConfig, algorithm: AlgorithmConfig, dtype: str, temperature: float) -> None:
        self._trainer, self._algorithm, self._dtype, self._temperature = trainer, algorithm, dtype, temperature
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._policy: PackedPolicy | None = None
        make_deterministic(trainer.threads)

    def load(self, weights: Path, optimizer: Path | None) -> None:
        updates = checkpoint.read_updates(optimizer) if optimizer else 0
        policy = load_policy(weights, self._dtype, self._temperature, self._trainer.gradient_checkpointing)
        policy.to(self._device)
        self._params = dict(policy.model.named_parameters())
        self._masters = {n: p.detach().float().clone().requires_grad_() for n, p in self._params.items()}
        self._optimizer = torch.optim.AdamW(
            self._masters.values(), betas=self._trainer.betas, weight_decay=self._trainer.weight_decay
        )
        for master in self._masters.values():
            self._optimizer.state[master] = {
                "step": torch.tensor(float(updates)),
                **{kind: torch.zeros_like(master) for kind in checkpoint.MOMENTS},
            }
        self._policy, self._source, self._updates = policy, weights, updates
        if optimizer:
            self._restore(optimizer)

    def update(self, batch: Batch, learning_rate: float) -> UpdateStats:
        policy, sums, signal = self._loaded(), Sums.zero(), has_signal(batch)
        for master in self._masters.values():
            master.grad = torch.zeros_like(master)
        with torch.set_grad_enabled(signal):
            for part in micro_batches(batch, self._trainer.rows_per_micro_batch):
                loss, part_sums = micro_batch_loss(policy, part, self._algorithm, self._device)
                if signal:
                    loss.backward()  # type: ignore[no-untyped-call]
                    self._collect_gradients()
                sums += part_sums
        sums.check_finite()
        return sums.stats(batch.loss_denominator, self._step(learning_rate) if signal else None)

    def _step(self, learning_rate: float) -> float:
        """Apply the gradients; returns their norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._masters.values(), self._trainer.max_grad_norm).item()
        check_finite("gradient norm", norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._updates += 1
        self._publish()
        return norm

    def save(self, weights: Path, optimizer: Path) -> None:
        policy = self._loaded()
        with checkpoint.written_whole(weights) as folder:
            write_model_folder(
                folder, policy.model, {n: p.detach().cpu() for n, p in self._params.items()}, self._source
            )
        with checkpoint.written_whole(optimizer) as folder:
            if self._dtype != "float32":
                checkpoint.write_state(folder, checkpoint.MASTERS, {n: m.detach() for n, m in self._masters.items()})
            for kind in checkpoint.MOMENTS:
                moments = {n: self._optimizer.state[m][kind] for n, m in self._masters.items()}
                checkpoint.write_state(folder, kind, moments)
            checkpoint.write_updates(folder, self._updates)

    def close(self) -> None:
        self._policy = None

    def _loaded(self) -> PackedPolicy:
        if self._policy is None:
            raise nothing_loaded()
        return self._policy

    def _restore(self, folder: Path) -> None:
        shapes = {n: tuple(m.shape) for n, m in self._masters.items()}
        if self._dtype != "float32":
            for name, value in checkpoint.read_state(folder, checkpoint.MASTERS, shapes):
                self._masters[name].data.copy_(value)
        for kind in checkpoint.MOMENTS:
            for name, value in checkpoint.read_state(folder, kind, shapes):
                self._optimizer.state[self._masters[name]][kind].copy_(value)

    def _collect_gradients(self) -> None:
        for name, param in self._params.items():
            master: Tensor = self._masters[name]
            if param.grad is not None and master.grad is not None:
                master.grad += param.grad
                param.grad = None

    def _publish(self) -> None:
        with torch.no_grad():
            for name, param in self._params.items():
                param.copy_(self._masters[name])
