"""A grading worker: the process behind `workers.Grader`. It works within a memory limit."""

from __future__ import annotations

import json
import resource
import sys

from torl_core.grading.equivalence import equivalent


def main(memory_bytes: int) -> None:
    """Judge the jobs on stdin, one JSON line each, until it closes."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    equivalent(r"\sqrt{8}", r"2\sqrt{2}")  # whatever is made at first use, before the first job's clock starts
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
