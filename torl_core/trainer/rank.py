"""One rank of the DeepSpeed learner: `python -m torl_core.trainer.rank FD`, started by DeepSpeedLearner.

It reads a Setup and then (verb, arguments) from the socket FD and answers each with (result, None) or (None,
TorlError). Any other exception ends the process with its traceback on stderr, where the parent finds it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor

from torl_core.errors import TorlError
from torl_core.packing import micro_batches, padding
from torl_core.protocols import UpdateStats
from torl_core.trainer import checkpoint
from torl_core.trainer.checkpoint import MASTERS
from torl_core.trainer.deepspeed import Setup
from torl_core.trainer.policy import load_policy, write_model_folder
from torl_core.trainer.steps import Sums, check_finite, make_deterministic, micro_batch_loss, nothing_loaded
from torl_core.types import Batch


def main() -> None:
    link = Connection(int(sys.argv[1]))
    rank = Rank(link.recv())
    while True:
        try:
            verb, arguments = link.recv()
        except EOFError:
            return
        try:
            result = getattr(rank, verb)(*arguments)
        except TorlError as error:
            link.send((None, error))
        else:
            link.send((result, None))


class Rank:
    """Answers Learner's verbs. Every rank is asked the same, and collective steps inside keep them together."""

    def __init__(self, setup: Setup) -> None:
        os.environ.update(RANK=str(setup.rank), LOCAL_RANK=str(setup.rank), WORLD_SIZE=str(setup.trainer.processes))
        # The only operator DeepSpeed would compile here is for inference: build none, so that no compiler is needed.
        deepspeed.ops.__compatible_ops__ = {}
        make_deterministic(setup.trainer.threads)
        gpu = torch.cuda.is_available()
        self._setup, self._trainer = setup, setup.trainer
        self._device = torch.device("cuda", setup.rank) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(self._device)
        deepspeed.init_distributed(
            dist_backend="nccl" if gpu else "gloo",
            auto_mpi_discovery=False,
            init_method=f"file://{setup.rendezvous}",
            rank=setup.rank,
            world_size=setup.trainer.processes,
        )
        self._engine: Any = None

    def load(self, weights: Path, optimizer: Path | None) -> None:
        trainer = self._trainer
        updates = checkpoint.read_updates(optimizer) if optimizer else 0
        policy = load_policy(weights, self._setup.dtype, self._setup.temperature, trainer.gradient_checkpointing)
        if self._engine is not None:
            self._engine.destroy()
        self._model, self._source = policy.model, weights
        self._shapes = {n: tuple(p.shape) for n, p in policy.model.named_parameters()}
        adamw = torch.optim.AdamW(policy.parameters(), betas=trainer.betas, weight_decay=trainer.weight_decay)
        if trainer.zero_stage == 0:
            adamw.register_step_pre_hook(lambda *_: self._clip_stage_0())
        self._engine, *_ = deepspeed.initialize(model=policy, optimizer=adamw, config=self._deepspeed_config())
        self._create_optimizer_state()
        if optimizer:
            kinds = checkpoint.MOMENTS if self._setup.dtype == "float32" else (MASTERS, *checkpoint.MOMENTS)
            for kind in kinds:
                self._set_state(kind, checkpoint.read_state(optimizer, kind, self._shapes))
        self._set_updates(updates)

    def update(self, batch: Batch, learning_rate: float, signal: bool) -> UpdateStats:
        """`batch`: this rank's rows of the update. `signal`: whether the whole update has any, on whichever rank."""
        if self._engine is None:
            raise nothing_loaded()
        sums = Sums.zero()
        with torch.set_grad_enabled(signal):
            for part in micro_batches(batch, self._trainer.rows_per_micro_batch):
                loss, part_sums = micro_batch_loss(self._engine, part, self._setup.algorithm, self._device)
                if signal:  # DeepSpeed averages gradients over ranks; the loss is a sum over them.
                    self._engine.backward(loss * self._trainer.processes, scale_wrt_gas=False)
                sums += part_sums
        values = sums.values.to(self._device)
        torch.distributed.all_reduce(values)
        sums = Sums(values.cpu())
        sums.check_finite()
        return sums.stats(batch.loss_denominator, self._step(learning_rate) if signal else None)

    def _step(self, learning_rate: float) -> float:
        """Apply the gradients; returns their norm before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        self._updates += 1
        norm = self._stage_0_norm if self._trainer.zero_stage == 0 else float(self._engine.get_global_grad_norm())
        check_finite("gradient norm", norm if self._engine.was_step_applied() else float("nan"))
        return norm

    def save(self, weights: Path, optimizer: Path) -> None:
        if self._engine is None:
            raise nothing_loaded()
        masters, dtype = self._state(MASTERS), getattr(torch, self._setup.dtype)
        if self._setup.rank != 0:
            for kind in checkpoint.MOMENTS:
                self._state(kind)
            return
        with checkpoint.written_whole(weights) as folder:
            write_model_folder(folder, self._model, {n: t.to(dtype) for n, t in masters.items()}, self._source)
        with checkpoint.written_whole(optimizer) as folder:
            if self._setup.dtype != "float32":
                checkpoint.write_state(folder, MASTERS, masters)
            del masters
            for kind in checkpoint.MOMENTS:
                checkpoint.write_state(folder, kind, self._state(kind))
            checkpoint.write_updates(folder, self._updates)

    def _deepspeed_config(self) -> dict[str, Any]:
        trainer, bf16 = self._trainer, self._setup.dtype == "bfloat16"
        elements = sum(map(math.prod, self._shapes.values()))
        return {
            "train_micro_batch_size_per_gpu": trainer.rows_per_micro_batch,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,  # the number of micro-batches differs from update to update
            "gradient_clipping": trainer.max_grad_norm if trainer.zero_stage else 0.0,
            "zero_optimization": {
                "stage": trainer.zero_stage,
                "reduce_bucket_size": min(elements, 500_000_000),  # allocated whole in every backward pass
            },
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": bf16},
            "data_types": {"grad_accum_dtype": "fp32"},
            "steps_per_print": 2**62,
        }

    def _create_optimizer_state(self) -> None:
        """DeepSpeed makes the moments in its first step: take one without gradient and learning rate, a no-op."""
        loss, _ = micro_batch_loss(self._engine, padding(1, 2), self._setup.algorithm, self._device)
        self._engine.backward(loss, scale_wrt_gas=False)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = 0.0
        self._engine.step()

    def _set_updates(self, updates: int) -> None:
        for state in self._engine.basic_optimizer.state.values():
            state["step"].fill_(updates)
        self._updates = updates

    def _clip_stage_0(self) -> None:
        """At stage 0 DeepSpeed does not return the norm it clips by, so that the clipping is done here instead.

        It runs between the reduction over ranks, which is part of the engine's step, and the optimizer's step.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._trainer.max_grad_norm)
        self._stage_0_norm = float(norm)

    def _state(self, kind: str) -> dict[str, Tensor]:
        """Whole float32 tensors by parameter name, on the CPU of rank 0; every rank takes part."""
        whole = ((name, self._whole(param, kind)) for name, param in self._model.named_parameters())
        return {name: tensor.detach().cpu() for name, tensor in whole if self._setup.rank == 0}

    def _whole(self, param: Tensor, kind: str) -> Tensor:
        if self._trainer.zero_stage == 0:
            whole = param if kind == MASTERS else self._engine.basic_optimizer.state[param][kind]
        elif kind == MASTERS:
            whole = safe_get_full_fp32_param(param)
        else:
            whole = safe_get_full_optimizer_state(param, kind)
        assert isinstance(whole, Tensor)
        return whole

    def _set_state(self, kind: str, tensors: Iterator[tuple[str, Tensor]]) -> None:
        params = dict(self._model.named_parameters())
        for name, tensor in tensors:
            param, value = params[name], tensor.to(self._device)
            if self._trainer.zero_stage == 0:
                self._engine.basic_optimizer.state[param][kind].copy_(value)
            elif kind == MASTERS:
                safe_set_full_fp32_param(param, value)
            else:
                safe_set_full_optimizer_state(param, value, kind)


if __name__ == "__main__":
    main()
