"""What runs inside vLLM's engine process: it ends when its parent does, however the parent ended.

vLLM's own engine process outlives a parent that was killed. Naming one of these executors makes the engine process
import this module while it unpickles its arguments, before it waits for anything.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from torl_core.engines.vllm import PARENT_PID

_PR_SET_PDEATHSIG = 1


class SingleWorker(UniProcExecutor):  # type: ignore[misc]
    """The model in the engine process itself. vLLM's CPU build would start a third process for it."""


class TensorParallel(MultiprocExecutor):  # type: ignore[misc]
    """One worker process per shard; vLLM ends those when the engine process ends."""


def _end_with_parent() -> None:
    """And not with the terminal's Ctrl-C, which goes to every process of its session: closing it is the parent's."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT_PID]):  # it died before the line above
        os._exit(1)


if multiprocessing.current_process().name == "EngineCore":
    _end_with_parent()
