"""What runs in a snippet's own process: the last doors are closed, then the code runs as `__main__`.

Nothing here returns. The process is PID 1 of its own namespace: when it ends, the kernel ends everything it started.
"""

from __future__ import annotations

import atexit
import gc
import io
import linecache
import mmap
import os
import resource
import signal
import sys
import threading
import traceback
import types
from typing import NoReturn

from torl_core.sandbox.inside import kernel
from torl_core.sandbox.inside.limits import Limits

FILE_NAME = "<snippet>"
OPEN_FILES = 256
MEMORY_FOR_REPORT_BYTES = 32 << 20
LONGEST_LINE = 2000
REAL_STDERR = 2


class _CappedFile(io.FileIO):
    """stdout or stderr, sealed to a fixed size. A snippet that fills it ends there instead of going on unheard."""

    def write(self, data: object) -> int:  # type: ignore[override]
        try:
            return io.FileIO.write(self, data)  # type: ignore[arg-type]
        except PermissionError:
            os._exit(1)


def run(fds: list[int], started: mmap.mmap, limits: Limits, filter_: kernel.Filter | None, cpu_s: int) -> NoReturn:
    """`fds` are code, stdout, stderr. `started` is set once nothing of the sandbox's own can fail any more."""
    status = 1
    try:
        source = _enter(fds, limits, filter_, cpu_s)
        started[0] = 1
        started.close()
        streams = [sys.stdout, sys.stderr]
        status = _run_main(source, limits.max_report_bytes)
        status = _finish(status, streams, limits.max_report_bytes)
    finally:
        os._exit(status & 0xFF)


def _enter(fds: list[int], limits: Limits, filter_: kernel.Filter | None, cpu_s: int) -> bytes:
    """The code, once everything around it is in place. What goes wrong here is written to stderr and raised."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        source = _take_stdio(fds)
        _set_limits(limits, cpu_s)
        gc.enable()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limits.jailed:
            kernel.drop_capabilities()
        if filter_ is not None:
            filter_.install()
        return source
    except BaseException as error:
        os.write(fds[2], f"{type(error).__name__}: {error}".encode())
        raise


def _take_stdio(fds: list[int]) -> bytes:
    code, out, err = fds
    with open(code, "rb") as file:
        source = file.read()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, REAL_STDERR)
    os.closerange(3, 1 << 16)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = sys.__stdout__ = _text(1, "<stdout>", "strict")
    sys.stderr = sys.__stderr__ = _text(REAL_STDERR, "<stderr>", "backslashreplace")
    return source


def _text(fd: int, name: str, errors: str) -> io.TextIOWrapper:
    """Line-buffered, so that whatever was printed is there when the snippet is killed."""
    raw = _CappedFile(fd, "w", closefd=False)
    raw.name = name
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=True)


def _set_limits(limits: Limits, cpu_s: int) -> None:
    """The soft memory limit is a little lower than the hard one: the last of it is for reporting a MemoryError."""
    hard = limits.memory_bytes + MEMORY_FOR_REPORT_BYTES
    for what, soft, ceiling in (
        (resource.RLIMIT_AS, limits.memory_bytes, hard),
        (resource.RLIMIT_CPU, cpu_s, cpu_s),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(what, (soft, ceiling))
    if limits.jailed:  # outside a user namespace of our own this would count every process of the user
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.max_processes, limits.max_processes))


def _run_main(source: bytes, max_report_bytes: int) -> int:
    """Exit status of the code run as a script would be."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    sys.argv = [FILE_NAME]
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
    try:
        exec(compile(source, FILE_NAME, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as stop:
        return _exit_status(stop)
    except BaseException as error:
        _report(error, max_report_bytes)
        return 1
    return 0


def _exit_status(stop: SystemExit) -> int:
    """As the interpreter has it: an integer is the status, None is 0, anything else is printed and is 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def _finish(status: int, streams: list[io.TextIOWrapper], max_report_bytes: int) -> int:
    """What the interpreter does at its end: threads joined, atexit functions run, output flushed."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            step()
        except BaseException as error:
            _report(error, max_report_bytes)
    for stream in (sys.stdout, sys.stderr, *streams):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            status = status or 120
    return status


def _report(error: BaseException, max_bytes: int) -> None:
    """The traceback on stderr, without this file's own frame and at most `max_bytes` long."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    below = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        if sys.excepthook is not sys.__excepthook__:
            return sys.excepthook(type(error), error, below)
        text = "".join(traceback.format_exception(type(error), error, below))
        report = _shortened(text, max_bytes).encode(errors="backslashreplace")
    except BaseException as trouble:
        report = f"{type(error).__name__} (no traceback: {type(trouble).__name__})\n".encode()
    try:
        sys.stdout.flush()
    except BaseException:  # closed, replaced or broken by the snippet: the report still goes out
        pass
    try:
        sys.stderr.flush()
    except BaseException:
        pass
    try:
        os.write(REAL_STDERR, report)
    except OSError:
        pass
    return None


def _shortened(text: str, max_bytes: int) -> str:
    """Long lines lose their middle, then the whole does, so that the last line still names the exception."""
    half = LONGEST_LINE // 2
    lines = text.splitlines(keepends=True)
    lines = [x if len(x) <= LONGEST_LINE else f"{x[:half]} [...] {x[-half:]}" for x in lines]
    text = "".join(lines)
    if len(text) * 4 <= max_bytes:
        return text
    keep = max_bytes // 8
    return text if len(text) <= 2 * keep else f"{text[:keep]}\n[... traceback cut ...]\n{text[-keep:]}"
