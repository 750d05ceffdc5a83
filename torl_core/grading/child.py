"""A grading worker: the process behind `workers.Grader`. Dies with its parent, within a memory limit."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import signal
import sys

from torl_core.grading.equivalence import equivalent, warm

_PR_SET_PDEATHSIG = 1


def main(memory_bytes: int) -> None:
    """Judge the jobs on stdin, one JSON line each, until it closes."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent was gone before prctl could bind this process to it
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    warm()  # before the first job's clock starts
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(_answer(line) + "\n")
        sys.stdout.flush()


def _answer(line: str) -> str:
    job = json.loads(line)
    try:
        grade = equivalent(job["gold"], job["answer"])
    except MemoryError:
        return json.dumps({"correct": False, "reason": "guard: out of memory"})
    return json.dumps({"correct": grade.correct, "reason": grade.reason[:500]})
