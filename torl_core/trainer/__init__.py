"""Learners: DeepSpeed in its own processes, and plain torch in this one."""

from __future__ import annotations

from torl_core.config import AlgorithmConfig, TrainerConfig
from torl_core.protocols import Learner


def open_learner(trainer: TrainerConfig, algorithm: AlgorithmConfig, dtype: str, temperature: float) -> Learner:
    """The learner that `trainer.backend` names. `temperature` is the one rollouts sample at; logits are divided by it.

    DeepSpeed's processes start here and import in the background; the first call waits for them.
    """
    if trainer.backend == "reference":
        from torl_core.trainer.reference import ReferenceLearner

        return ReferenceLearner(trainer, algorithm, dtype, temperature)
    from torl_core.trainer.deepspeed import DeepSpeedLearner

    return DeepSpeedLearner(trainer, algorithm, dtype, temperature)
