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
from typing import NoReturn, Protocol

from torl_core.sandbox.inside import kernel, layout, snippet
from torl_core.sandbox.inside.limits import (
    CANCEL,
    CANCELLED,
    ENDED,
    FILES,
    JOB,
    NOT_STARTED,
    OUTCOME,
    ROOM_FOR_FILES,
    TIMED_OUT,
    Limits,
)

READY = b"ready"
UNPRIVILEGED_ID = 65534
NAMESPACES = {
    "bubblewrap": kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC,
    "gvisor": kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC,
}
TMP_INODES = 16384
USER_IDS = 4096
ROOT = "/tmp/{}"
"""Of a slot in gVisor, by number."""
OPEN_FILES = 256
MEMORY_FOR_REPORT_BYTES = 32 << 20


def start(channel: socket.socket, limits: Limits, filter_: kernel.Filter | None, heap: layout.Heap, number: int) -> int:
    """Fork a slot that serves `channel`, in namespaces of its own where it is jailed: the worker's `number`-th. Returns
    its process."""
    pid = kernel.fork_into(NAMESPACES[limits.jail]) if limits.jailed else kernel.fork()
    if pid == 0:
        _serve(channel, limits, filter_, heap, number)
    return pid


def clear(number: int, pid: int) -> bool:
    """Whether a slot in gVisor has ended; then its mounts are removed, which go with its namespace elsewhere."""
    if os.path.exists(f"/proc/{pid}"):
        return False
    kernel.detach(ROOT.format(number))
    os.rmdir(ROOT.format(number))
    return True


def _serve(
    channel: socket.socket, limits: Limits, filter_: kernel.Filter | None, heap: layout.Heap, number: int
) -> NoReturn:
    """Until the pool closes the channel. Whatever fails here ends the slot; the pool replaces it."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        place = _place(limits, number)
        server = _Server(channel, place, limits, filter_)
        place.refresh()
        layout.use_huge_pages(heap)  # those it shared with the warm interpreter fell apart where it wrote
        channel.send(READY)
        while server.serve_one():
            place.refresh()
            server.fork()
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


class _Server:
    """Runs the snippets. The process of the next one is forked ahead and waits behind its jail's doors, so that a call
    waits for neither: only the first is not, because the pool moves a slot to its control group after READY."""

    def __init__(self, channel: socket.socket, place: Place, limits: Limits, filter_: kernel.Filter | None) -> None:
        self._channel, self._place, self._watch = channel, place, _Watch(channel)
        _limit_what_snippets_inherit(limits)
        self._interpreter = snippet.Interpreter(limits, filter_)
        self._started = mmap.mmap(-1, mmap.PAGESIZE)
        self._box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._next = 0

    def fork(self) -> None:
        self._started[0] = 0
        self._next = kernel.fork()
        if self._next == 0:
            self._interpreter.run(self._box[0], self._started)

    def serve_one(self) -> bool:
        """Whether the pool is still there."""
        message = CANCEL
        while message == CANCEL:  # one that crossed the answer to the call it was meant for
            message, ancillary, _, _ = self._channel.recvmsg(JOB.size, ROOM_FOR_FILES)
        if len(message) != JOB.size:
            return False
        timeout_s, _ = JOB.unpack(message)
        fds = FILES.unpack(ancillary[0][2])
        if not self._next:
            self.fork()
        begin = time.monotonic()
        self._box[1].sendmsg([message], ancillary)
        ending, alive, status, usage = self._watch.until_end(self._next, timeout_s)
        wall_s = time.monotonic() - begin
        self._place.end_stragglers()
        written = [os.lseek(fd, 0, os.SEEK_CUR) for fd in fds[1:]]
        for fd in fds:
            os.close(fd)
        if not self._started[0]:
            self._renew_box()
            ending = NOT_STARTED if ending == ENDED else ending
        cpu_s = usage.ru_utime + usage.ru_stime
        if alive:
            self._channel.send(OUTCOME.pack(ending, status, wall_s, cpu_s, usage.ru_maxrss * 1024, *written))
        return alive

    def _renew_box(self) -> None:
        """The job may still lie in the old one, and must not be the next process's."""
        for end in self._box:
            end.close()
        self._box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class _Watch:
    """Waits for a snippet's end, its time limit or the pool's word. By SIGCHLD, because gVisor has no pidfd."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._ended = channel, kernel.child_signals()
        self._poll = select.poll()
        self._poll.register(self._ended, select.POLLIN)
        self._poll.register(channel, select.POLLIN)

    def until_end(self, pid: int, timeout_s: float) -> tuple[int, bool, int, resource.struct_rusage]:
        """Returns the ending, whether the pool lives, wait status and usage."""
        deadline = time.monotonic() + timeout_s
        while True:
            ready = dict(self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if self._ended not in ready:
                break
            os.read(self._ended, 4096)
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:  # else it was an adopted orphan's end
                return ENDED, True, status, usage
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        alive = not ready or self._channel.recv(64) != b""
        return (CANCELLED if ready else TIMED_OUT), alive, status, usage


class Place(Protocol):
    """Where a slot's snippets run."""

    def refresh(self) -> None:
        """Before the first snippet and after each."""
        ...

    def end_stragglers(self) -> None: ...

    def leave(self) -> None: ...


def _place(limits: Limits, number: int) -> Place:
    if limits.jail == "gvisor":
        return _GvisorJail(limits, number)
    return _Jail(limits) if limits.jailed else _Folder()


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


class _GvisorJail:
    """Within gVisor, whose mount and user namespaces do not part anything: a root directory and a user id per slot."""

    def __init__(self, limits: Limits, number: int) -> None:
        root = ROOT.format(number)
        os.mkdir(root)
        kernel.bind("/", root)
        kernel.bind("/dev", f"{root}/dev")
        for folder in ("proc", "run"):  # which are there for gVisor
            kernel.mount_tmpfs(f"{root}/{folder}", "size=4k,mode=0555", kernel.MS_RDONLY)
        os.chroot(root)
        kernel.drop_bounding_set()
        self._become(UNPRIVILEGED_ID - number % USER_IDS)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        self._tmp = f"size={limits.tmp_bytes},mode=0700,uid={os.getuid()},gid={os.getgid()}"
        self._mounted = False

    def _become(self, id_: int) -> None:
        """Keeping the right to mount /tmp, which the snippet drops."""
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(id_, id_, id_)
        os.setresuid(id_, id_, id_)
        kernel.keep_only_capability(kernel.CAP_SYS_ADMIN)

    def refresh(self) -> None:
        """A new /tmp, and a new PID namespace for the next fork."""
        if self._mounted:
            os.chdir("/")
            kernel.detach("/tmp")
        kernel.mount_tmpfs("/tmp", self._tmp)
        kernel.unshare(kernel.CLONE_NEWPID)
        os.chdir("/tmp")
        self._mounted = True

    def end_stragglers(self) -> None:
        """Nothing to do: they were in the PID namespace that ended with the snippet."""

    def leave(self) -> None:
        kernel.detach("/tmp")


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
