"""Inference engines behind the `Generator` protocol: vLLM, transformers (the reference) and a scripted one."""

from __future__ import annotations

from pathlib import Path

from torl_core.config import EngineConfig
from torl_core.protocols import Generator


async def open_engine(config: EngineConfig, weights: Path, version: int, dtype: str, seed: int) -> Generator:
    """A warm engine with the weights of a Hugging Face folder, stamping `version` on what it samples.

    It belongs to the running event loop: keep one thread with one loop for it. Starting blocks that loop (vLLM: about
    20 s on two cores). `dtype` is float32 or bfloat16; `seed` decides draws that bring no seed of their own.
    Raises EngineError, and DataError for a folder that is no model.
    """
    if config.backend == "vllm":
        from torl_core.engines.vllm import VllmEngine

        return await VllmEngine.open(config, weights, version, dtype, seed)
    from torl_core.engines.transformers import TransformersEngine

    return TransformersEngine(config, weights, version, dtype, seed)
