"""A slot: one process forked from the warm interpreter, that runs one snippet at a time.

It owns a user namespace (so that a process limit counts this slot's processes alone), a mount namespace (so that /tmp
is its own), an IPC and a PID namespace (so that what it started dies with it). Within, each snippet gets another PID
namespace and a new /tmp. The slot never sees code or output: they pass it as descriptors.
"""

from __future__ import annotations

import mmap
import os
import resource
import select
import shutil
import signal
import socket
import tempfile
import time
from typing import NoReturn

from torl_core.sandbox.inside import kernel, snippet
from torl_core.sandbox.inside.limits import CANCELLED, ENDED, JOB, NOT_STARTED, OUTCOME, TIMED_OUT, Limits

READY = b"ready"
UNPRIVILEGED_ID = 65534
NAMESPACES = kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC
TMP_INODES = 16384
OPEN_FILES = 256
MEMORY_FOR_REPORT_BYTES = 32 << 20


def start(channel: socket.socket, limits: Limits, filter_: kernel.Filter | None) -> None:
    """Fork a slot that serves `channel`, in namespaces of its own where it is jailed."""
    pid = kernel.fork_into(NAMESPACES) if limits.jailed else kernel.fork()
    if pid == 0:
        _serve(channel, limits, filter_)


def _serve(channel: socket.socket, limits: Limits, filter_: kernel.Filter | None) -> NoReturn:
    """Until the pool closes the channel. Whatever fails here ends the slot; the pool replaces it."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        place: _Jail | _Folder = _Jail(limits) if limits.jailed else _Folder()
        _limit_what_snippets_inherit(limits)
        interpreter = snippet.Interpreter(limits, filter_)
        started = mmap.mmap(-1, mmap.PAGESIZE)
        place.refresh()
        channel.send(READY)
        while _serve_one(channel, interpreter, started, place):
            place.refresh()
        place.leave()
        status = 0
    except OSError as error:
        channel.send(f"{error.strerror or error}".encode()[:4096])
    finally:
        os._exit(status)


def _limit_what_snippets_inherit(limits: Limits) -> None:
    """The slot lives within them, too. The last of the memory is for reporting that there was not enough."""
    pairs = [
        (resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes + MEMORY_FOR_REPORT_BYTES)),
        (resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES)),
        (resource.RLIMIT_CORE, (0, 0)),
    ]
    if limits.jailed:  # outside a user namespace of our own this would count every process of the user
        pairs.append((resource.RLIMIT_NPROC, (limits.max_processes, limits.max_processes)))
    for what, soft_and_hard in pairs:
        resource.setrlimit(what, soft_and_hard)


def _serve_one(
    channel: socket.socket, interpreter: snippet.Interpreter, started: mmap.mmap, place: _Jail | _Folder
) -> bool:
    message, fds, _, _ = socket.recv_fds(channel, JOB.size, 3)
    if len(message) != JOB.size:
        return message != b""  # else a cancellation that crossed the answer it was meant for
    timeout_s, code_bytes = JOB.unpack(message)
    started[0] = 0
    begin = time.monotonic()
    pid = kernel.fork()
    if pid == 0:
        interpreter.run(fds, code_bytes, started)
    for fd in fds:
        os.close(fd)
    ending, alive = _watch(pid, channel, timeout_s)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - begin
    place.end_stragglers()
    if ending == ENDED and not started[0]:
        ending = NOT_STARTED
    cpu_s = usage.ru_utime + usage.ru_stime
    if alive:
        channel.send(OUTCOME.pack(ending, status, wall_s, cpu_s, usage.ru_maxrss * 1024))
    return alive


def _watch(pid: int, channel: socket.socket, timeout_s: float) -> tuple[int, bool]:
    """Wait for the snippet's end, its time limit or the pool's word. Returns the ending and whether the pool lives."""
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(channel, select.POLLIN)
    ready = dict(poll.poll(timeout_s * 1000))
    os.close(handle)
    if ready.get(handle):
        return ENDED, True
    os.kill(pid, signal.SIGKILL)
    return (CANCELLED, channel.recv(64) != b"") if ready else (TIMED_OUT, True)


class _Jail:
    """The slot's namespaces, and what is renewed for every snippet."""

    def __init__(self, limits: Limits) -> None:
        self._map_identity()
        kernel.make_mounts_private()
        kernel.mount_tmpfs("/proc", "size=4k,mode=0555", kernel.MS_RDONLY)  # nobody looks at processes from here on
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.drop_bounding_set()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        self._own_pid_namespace = os.pidfd_open(os.getpid())
        self._tmp = f"size={limits.tmp_bytes},nr_inodes={TMP_INODES},mode=0700,uid={os.getuid()},gid={os.getgid()}"
        self._mounted = False

    def _map_identity(self) -> None:
        """In a new user namespace nobody has a name until this is written."""
        same = f"{UNPRIVILEGED_ID} {UNPRIVILEGED_ID} 1"
        for name, line in (("uid_map", same), ("setgroups", "deny"), ("gid_map", same)):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)

    def refresh(self) -> None:
        """A new /tmp, and a new PID namespace for the next fork. /tmp is the working directory and holds /dev/shm."""
        if self._mounted:
            os.chdir("/")
            kernel.detach("/tmp")
            kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)
        kernel.mount_tmpfs("/tmp", self._tmp)
        kernel.unshare(kernel.CLONE_NEWPID)
        os.chdir("/tmp")
        self._mounted = True

    def end_stragglers(self) -> None:
        """Nothing to do: they were in the PID namespace that ended with the snippet."""

    def leave(self) -> None:
        """Nothing to do: the namespaces end with the slot."""


class _Folder:
    """Without isolation: a folder of its own per snippet, and its process session is killed behind it."""

    def __init__(self) -> None:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._path = ""

    def leave(self) -> None:
        if self._path:
            os.chdir("/")
            shutil.rmtree(self._path, ignore_errors=True)

    def refresh(self) -> None:
        self.leave()
        self._path = tempfile.mkdtemp(prefix="torl-snippet-")
        os.environ["TMPDIR"] = self._path
        os.chdir(self._path)

    def end_stragglers(self) -> None:
        """Orphans come to this process, which adopted them: kill until none is left."""
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(word) for word in file.read().split()]
            if not children:
                return
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def address_space_bytes() -> int:
    """What this process has mapped: the floor under a snippet's memory limit."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
