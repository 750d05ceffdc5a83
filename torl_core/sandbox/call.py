"""One execution: its three files, and how its outcome is read."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import re
import signal
from dataclasses import dataclass, field

from torl_core.sandbox import output
from torl_core.sandbox.inside.limits import OUTCOME, TIMED_OUT
from torl_core.types import CallStatus, ToolCall

PAGE = os.sysconf("SC_PAGE_SIZE")
MEMORY_ERROR = re.compile(r"^(\w+\.)*_?\w*MemoryError\b")
KILLED_ITSELF = signal.SIGSYS
"""What the system-call filter ends a process with that sends itself SIGKILL."""


@dataclass(slots=True, eq=False)
class Call:
    """A waiting or running execution. `code` is UTF-8; `attempts` counts the workers it was given to."""

    code: str
    timeout_s: float
    future: asyncio.Future[ToolCall]
    created_s: float
    dispatched_s: float = 0.0
    attempts: int = 0
    files: Files | None = field(default=None)


class Files:
    """Code, stdout and stderr as memory files. The output files are sealed to their size, so they cannot grow. They
    take memory only for what is written, and a control group counts that memory as the snippet's.

    `kept` bytes of an output are read; `limit` bytes may be written.
    """

    __slots__ = ("code", "code_bytes", "kept", "limit", "stderr", "stdout")

    def __init__(self, code: bytes, kept: int, limit: int) -> None:
        self.kept, self.limit, self.code_bytes = kept, limit, len(code)
        capacity = -(-(limit + 1) // PAGE) * PAGE
        opened: list[int] = []
        try:
            opened.append(_memory_file("code"))
            _write_all(opened[0], code)
            for name in ("stdout", "stderr"):
                opened.append(_memory_file(name))
                os.ftruncate(opened[-1], capacity)
                fcntl.fcntl(opened[-1], fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        self.code, self.stdout, self.stderr = opened

    def close(self) -> None:
        for fd in (self.code, self.stdout, self.stderr):
            os.close(fd)

    def read(self, fd: int, written: int) -> tuple[str, bool]:
        """What is kept of a text, and whether it went past the limit. `written` is how far the writers came."""
        read = functools.partial(os.pread, fd)
        if written <= self.limit:
            return output.shortened(read, written, self.kept), False
        return output.shortened(read, output.whole_characters(read, self.limit), self.kept), True


def _memory_file(name: str) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _write_all(fd: int, data: bytes) -> None:
    offset = 0
    while offset < len(data):
        offset += os.pwrite(fd, data[offset:], offset)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A slot's answer, see `inside.limits.OUTCOME`."""

    ending: int
    wait_status: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    stdout_bytes: int
    stderr_bytes: int

    @staticmethod
    def parse(message: bytes) -> Outcome:
        return Outcome(*OUTCOME.unpack(message))


def tool_call(call: Call, files: Files, outcome: Outcome, jailed: bool) -> ToolCall:
    stdout, stdout_over = files.read(files.stdout, outcome.stdout_bytes)
    stderr, stderr_over = files.read(files.stderr, outcome.stderr_bytes)
    exit_code: int | None = os.waitstatus_to_exitcode(outcome.wait_status)
    if exit_code == -KILLED_ITSELF:
        exit_code = -signal.SIGKILL
        status: CallStatus = "crash"
    elif stdout_over or stderr_over:
        exit_code, status = None, "output_limit"
    elif outcome.ending == TIMED_OUT:
        exit_code, status = None, "timeout"
    else:
        status = _status(exit_code or 0, stderr, jailed)
        exit_code = None if status == "memory" and exit_code == -signal.SIGKILL else exit_code
    return ToolCall(
        code=call.code,
        status=status,
        stdout=stdout,
        stderr=stderr,
        duration_s=outcome.wall_s,
        queued_s=call.dispatched_s - call.created_s,
        exit_code=exit_code,
        cpu_s=outcome.cpu_s,
        peak_memory_bytes=outcome.peak_memory_bytes,
    )


def _status(exit_code: int, stderr: str, jailed: bool) -> CallStatus:
    """Nobody in a jail can send SIGKILL to a snippet's main process: one that came unasked is the kernel's, out of
    memory."""
    if exit_code == 0:
        return "ok"
    if exit_code == -signal.SIGKILL and jailed:
        return "memory"
    if exit_code < 0:
        return "crash"
    last_line = stderr.rstrip().rpartition("\n")[2]
    return "memory" if MEMORY_ERROR.match(last_line) else "error"
