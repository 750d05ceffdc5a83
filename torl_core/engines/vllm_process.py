"""What runs inside vLLM's processes: the engine's ends when its parent does, however the parent ended, and one that
cannot start tells its parent why.

vLLM's own engine process outlives a parent that was killed. Naming one of these executors makes the engine process
import this module while it unpickles its arguments, before it waits for anything.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from torl_core.engines.vllm import CAUSE_FILE, PARENT_PID, cause_of
from torl_core.launch.tie import end_with_parent
from torl_core.noise import VLLM_LEVEL


class SingleWorker(UniProcExecutor):  # type: ignore[misc]
    """The model in the engine process itself. vLLM's CPU build would start a third process for it."""


class TensorParallel(MultiprocExecutor):  # type: ignore[misc]
    """One worker process per shard; vLLM ends those when the engine process ends."""


def _end_with_parent() -> None:
    """And not with the terminal's Ctrl-C, which goes to every process of its session: closing it is the parent's."""
    os.setsid()
    end_with_parent(int(os.environ[PARENT_PID]))


class _TellsTheCause(logging.Filter):
    """Writes why a process does not start into the parent's file, instead of two tracebacks to stderr.

    The first process to fail writes: the engine's own error comes after that of a worker it waits for.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[1]
        if not error or not record.getMessage().endswith("failed to start."):
            return True
        with contextlib.suppress(FileExistsError), open(os.environ[CAUSE_FILE], "x") as file:
            file.write(cause_of(error))
        if os.environ[VLLM_LEVEL] != "ERROR":  # the user wants to see more
            return True
        if _IS_ENGINE:
            sys.exit(1)  # else vLLM raises the error again, and multiprocessing prints it
        return False


_IS_ENGINE = multiprocessing.current_process().name == "EngineCore"
if _IS_ENGINE:
    _end_with_parent()
if multiprocessing.current_process().name != "MainProcess":
    for _name in ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor"):
        logging.getLogger(_name).addFilter(_TellsTheCause())
