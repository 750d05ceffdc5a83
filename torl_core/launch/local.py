"""Processes on this machine that end with the one that starts them."""

from __future__ import annotations

import functools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from torl_core.launch import tie

_Order = tuple[Sequence[str], dict[str, Any], "Future[subprocess.Popen[bytes]]"]


def tied(command: Sequence[str]) -> list[str]:
    """The same command, as a process that is killed when the *thread* that starts it ends.

    For callers that start processes themselves, in a thread that lives as long as they need the process.
    """
    return [sys.executable, "-I", "-S", str(Path(tie.__file__).resolve()), str(os.getpid()), *command]


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, from whichever thread. `options` are those of `subprocess.Popen`.

    It has a session of its own: Ctrl-C in a terminal goes to every process of a session, and ending this one is its
    parent's decision.
    """
    answer: Future[subprocess.Popen[bytes]] = Future()
    _starter().put((tied(command), {"start_new_session": True, **options}, answer))
    return answer.result()


@functools.cache
def _starter() -> queue.SimpleQueue[_Order]:
    """The orders of one thread that lives as long as this process: the kernel ties a child to the thread it is from."""
    orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
    threading.Thread(target=_serve, args=(orders,), name="process starter", daemon=True).start()
    return orders


def _serve(orders: queue.SimpleQueue[_Order]) -> None:
    while True:
        command, options, answer = orders.get()
        try:
            process: Any = subprocess.Popen(command, **options)  # mypy cannot tell from the options that it is of bytes
            answer.set_result(process)
        except BaseException as error:  # it belongs to the caller
            answer.set_exception(error)
