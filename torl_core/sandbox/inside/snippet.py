"""What runs in a snippet's own process: the last doors are closed, then the code runs as `__main__`.

Nothing here returns. The process is PID 1 of its own namespace: when it ends, the kernel ends everything it started.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import linecache
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import traceback
import types
from typing import NoReturn

from torl_core.sandbox.inside import kernel
from torl_core.sandbox.inside.limits import FILES, JOB, ROOM_FOR_FILES, Limits

FILE_NAME = "<snippet>"
LONGEST_LINE, MOST_FRAMES = 2000, 1000
STDOUT, STDERR = 1, 2


class _CappedFile(io.FileIO):
    """stdout or stderr, sealed to the most that a snippet may write. One that fills it ends there."""

    def write(self, data: object) -> int:
        try:
            return io.FileIO.write(self, data)  # type: ignore[arg-type]
        except PermissionError:
            os._exit(1)


class Interpreter:
    """What every snippet finds: standard streams and an empty `__main__`.

    Made once in the slot, because whatever a snippet's process need not build it need not copy pages for. The streams
    stand on descriptors 1 and 2, where a snippet's own files are put after the fork.
    """

    def __init__(self, limits: Limits, filter_: kernel.Filter | None) -> None:
        self._limits, self._filter = limits, filter_
        self._hint = "what can be imported here is the standard library, " + ", ".join(limits.importable)
        for fd in (STDOUT, STDERR):  # like those to come, so that what a stream remembers of its file stays true
            os.dup2(os.memfd_create("placeholder"), fd)
        sys.stdout = sys.__stdout__ = _text(STDOUT, "<stdout>", "strict")  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _text(STDERR, "<stderr>", "backslashreplace")  # type: ignore[misc]
        self._streams = (sys.stdout, sys.stderr)
        self._main = types.ModuleType("__main__")
        self._main.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = self._main
        sys.argv = [FILE_NAME]
        self._thread_out_of_memory = False
        threading.excepthook = self._thread_failed

    def run(self, inbox: socket.socket, started: mmap.mmap) -> NoReturn:
        """In the new process. Its job comes from `inbox`; `started` is set once nothing but the code can fail."""
        status = 1
        try:
            source = self._enter(inbox)
            started[0] = 1
            started.close()
            status = self._run_main(source)
            status = self._finish(status)
        finally:
            os._exit(status & 0xFF)

    def _enter(self, inbox: socket.socket) -> bytes:
        """The code, once every door is closed. What goes wrong is said on stderr and raised."""
        trouble = self._close_doors()
        message, ancillary, _, _ = inbox.recvmsg(JOB.size, ROOM_FOR_FILES)
        _, code_bytes = JOB.unpack(message)
        code, out, err = FILES.unpack(ancillary[0][2])
        try:
            if trouble is not None:
                raise trouble
            source = os.pread(code, code_bytes, 0)
            os.dup2(out, STDOUT)
            os.dup2(err, STDERR)
            os.closerange(3, 1 << 16)
            return source
        except BaseException as error:
            os.write(err, f"{type(error).__name__}: {error}".encode())
            raise

    def _close_doors(self) -> Exception | None:
        """All that need not wait for the code. Returns what went wrong, there being no stderr yet."""
        try:
            os.setsid()
            kernel.unblock_child_signals()
            if self._limits.jailed:
                kernel.drop_capabilities()
            else:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._filter is not None:
                self._filter.install()
        except Exception as error:
            return error
        return None

    def _run_main(self, source: bytes) -> int:
        """Exit status of the code run as a script would be."""
        lines = source.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[FILE_NAME] = (len(source), None, lines, FILE_NAME)
        try:
            if b"\0" in source:  # compile() raises ValueError before Python 3.11.4
                raise SyntaxError("source code string cannot contain null bytes")
            exec(compile(source, FILE_NAME, "exec", dont_inherit=True), self._main.__dict__)
        except SystemExit as stop:
            return _exit_status(stop)
        except BaseException as error:
            if isinstance(error, ModuleNotFoundError):
                self._name_what_is_there(error)
            _report(error, self._limits.max_report_bytes)
            return 1
        return 0

    def _name_what_is_there(self, error: ModuleNotFoundError) -> None:
        """In the last line of the traceback, where whoever wrote the code sees it."""
        package = str(error.name).partition(".")[0]
        if package not in self._limits.importable and package not in sys.stdlib_module_names:
            error.msg = f"{error.msg} ({self._hint})"

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """The exception itself is not held: what its frames refer to is the memory that the others lack."""
        self._thread_out_of_memory |= issubclass(failure.exc_type, MemoryError)
        threading.__excepthook__(failure)

    def _finish(self, status: int) -> int:
        """What the interpreter does at its end: threads joined, atexit functions run, output flushed.

        Python only prints the exception of a thread or of an exit function. A memory limit met there still ends the
        snippet as an error.
        """
        out_of_memory: BaseException | None = None
        show = sys.unraisablehook

        def hook(ignored: sys.UnraisableHookArgs) -> None:
            nonlocal out_of_memory
            if issubclass(ignored.exc_type, MemoryError):
                out_of_memory = ignored.exc_value or MemoryError()
            else:
                show(ignored)

        sys.unraisablehook = hook
        try:
            if threading.active_count() > 1:
                threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        except BaseException as error:
            _report(error, self._limits.max_report_bytes)
        if out_of_memory is None and self._thread_out_of_memory:
            out_of_memory = MemoryError()
        if out_of_memory is not None:
            _report(out_of_memory, self._limits.max_report_bytes)
            status = 1
        for stream in (*self._streams, *(s for s in (sys.stdout, sys.stderr) if s not in self._streams)):
            try:
                if stream is not None and not stream.closed:
                    stream.flush()
            except BaseException:  # the stream is the snippet's own
                status = status or 120
        return status


def _text(fd: int, name: str, errors: str) -> io.TextIOWrapper:
    """Line-buffered, so that whatever was printed is there when the snippet is killed."""
    raw = _CappedFile(fd, "w", closefd=False)
    raw.name = name
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=True)


def _exit_status(stop: SystemExit) -> int:
    """As the interpreter has it: an integer is the status, None is 0, anything else is printed and is 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code if abs(stop.code) < 1 << 63 else -1
    print(stop.code, file=sys.stderr)
    return 1


def _report(error: BaseException, max_bytes: int) -> None:
    """The traceback on stderr, without this file's own frame and at most `max_bytes` long."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    below = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, below)
            return
        text = "".join(traceback.format_exception(type(error), error, below, limit=-MOST_FRAMES))
        report = _shortened(text, max_bytes).encode(errors="backslashreplace")
    except BaseException as trouble:
        report = f"{type(error).__name__} (no traceback: {type(trouble).__name__})\n".encode()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # closed, replaced or broken by the snippet: the report still goes out
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(STDERR, report)


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
