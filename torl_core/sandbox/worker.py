"""The pool's handle on one warm interpreter and its slots."""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator

from torl_core.launch import tied
from torl_core.sandbox import gvisor, jail
from torl_core.sandbox.call import Call, Files, Outcome
from torl_core.sandbox.cgroups import Groups
from torl_core.sandbox.inside.limits import CANCEL, JOB, NEW_SLOT, OUTCOME, Jail, Limits
from torl_core.sandbox.inside.slot import READY

START_TIMEOUT_S = 180.0
"""Many may warm up at once on few cores."""
BURIAL_TIMEOUT_S = 5.0
CREDENTIALS = struct.Struct("3i")


class WorkerError(Exception):
    """A warm interpreter that did not start; the message is what it said."""


class Slot:
    """One end of a slot's channel. `call` is what runs there now, None when idle."""

    __slots__ = ("call", "deadline_s", "files", "group", "pidfd", "sock", "worker")

    def __init__(self, worker: Worker, sock: socket.socket) -> None:
        self.worker, self.sock = worker, sock
        self.pidfd = -1
        self.group: str | None = None
        self.call: Call | None = None
        self.files: Files | None = None
        self.deadline_s = 0.0

    def run(self, call: Call, files: Files) -> None:
        """Raises OSError when the slot is gone."""
        self.call, self.files = call, files
        fds = array.array("i", (files.code, files.stdout, files.stderr))
        job = JOB.pack(call.timeout_s, files.code_bytes)
        self.sock.sendmsg([job], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    def cancel(self) -> None:
        with contextlib.suppress(OSError):  # a slot that is gone is noticed by its reader
            self.sock.send(CANCEL)

    def kill(self) -> None:
        """The slot and all it runs. In gVisor its process is nobody else's to kill: it ends when its channel does."""
        if self.worker.jail == "gvisor":
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def outcome(self) -> Outcome | None:
        """The answer that waits on the channel; None when the slot is gone."""
        try:
            message = self.sock.recv(4096)
        except BlockingIOError:
            raise
        except OSError:
            return None
        return Outcome.parse(message) if len(message) == OUTCOME.size else None

    def close(self) -> None:
        self.sock.close()
        if self.files is not None:
            self.files.close()
            self.files = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.group is not None:
            self.worker.groups.leave(self.group)
            self.group = None


class Worker:
    """A warm interpreter: the bubblewrap process, its channel and its slots."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, log: int, jail: Jail, groups: Groups
    ) -> None:
        self.process, self.channel, self._log, self.jail, self.groups = process, channel, log, jail, groups
        self.group: str | None = None
        self.slots: set[Slot] = set()
        self.alive = True
        self._last_words = ""

    @staticmethod
    async def start(limits: Limits, groups: Groups) -> Worker:
        """Raises WorkerError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = os.memfd_create("worker-log", os.MFD_CLOEXEC)
        fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
        try:
            with theirs, _launch(theirs.fileno(), limits) as launch:
                worker = Worker(_spawn(launch, log), ours, log, limits.jail, groups)
                await worker._enter_group()
        except OSError as error:
            ours.close()
            os.close(log)
            raise WorkerError(str(error)) from error
        try:
            await worker._greet(limits)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _enter_group(self) -> None:
        """In gVisor all slots are one process of the host's, so the worker as a whole is bounded."""
        if self.jail == "gvisor":
            self.group = await asyncio.to_thread(self.groups.enter, self.process.pid)

    async def _greet(self, limits: Limits) -> None:
        self.channel.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await loop.sock_sendall(self.channel, json.dumps(dataclasses.asdict(limits)).encode())
                answer = await loop.sock_recv(self.channel, 64)
        except (OSError, TimeoutError) as error:
            raise WorkerError(self.log() or f"no answer ({error!r})") from error
        if answer != READY:
            raise WorkerError(self.log() or "ended while starting")

    async def open_slot(self) -> Slot:
        """Raises WorkerError with what the slot said, or OSError when the worker is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        slot = Slot(self, ours)
        try:
            with theirs:
                socket.send_fds(self.channel, [NEW_SLOT], [theirs.fileno()])
            await asyncio.wait_for(_readable(ours), START_TIMEOUT_S)
            message, ancillary, _, _ = ours.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
            if message != READY:
                raise WorkerError(message.decode() or self.log() or "the slot ended while starting")
            pid = CREDENTIALS.unpack(ancillary[0][2])[0]
            slot.pidfd = os.pidfd_open(pid)
            if self.jail != "gvisor":  # the kernel takes its time to move a process
                slot.group = await asyncio.to_thread(self.groups.enter, pid)
        except BaseException:
            slot.close()
            raise
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self.slots.add(slot)
        return slot

    def log(self) -> str:
        """The last of what the process said."""
        if self._log < 0:
            return self._last_words
        size = os.fstat(self._log).st_size
        return os.pread(self._log, 4000, max(0, size - 4000)).decode(errors="replace").strip()

    async def close(self) -> None:
        """Everything inside dies with the process, whose PID namespace it is; returns once it is gone."""
        self.alive = False
        slots, self.slots = self.slots, set()
        self.channel.close()  # its end: the interpreter leaves, and the kernel clears the namespace
        await asyncio.shield(asyncio.to_thread(self._bury, [slot.pidfd for slot in slots]))
        for slot in slots:
            slot.close()
        if self.group is not None:
            self.groups.leave(self.group)
            self.group = None
        self._last_words = self.log()
        os.close(self._log)
        self._log = -1

    def _bury(self, pidfds: list[int]) -> None:
        try:
            self.process.wait(BURIAL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pidfd in pidfds:
            end = select.poll()
            end.register(pidfd, select.POLLIN)
            end.poll(BURIAL_TIMEOUT_S * 1000)


@contextlib.contextmanager
def _launch(fd: int, limits: Limits) -> Iterator[jail.Launch]:
    """How to start a warm interpreter whose channel is `fd`; what it needs of this process is closed afterwards."""
    if limits.jail == "gvisor":
        with gvisor.launch(fd, limits.packages) as launch:
            yield launch
    else:
        yield jail.launch(fd, limits.packages) if limits.jailed else jail.launch_unjailed(fd)


def _spawn(launch: jail.Launch, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        tied(launch.words),
        env=launch.environment,
        pass_fds=launch.fds,
        stdin=launch.stdin,
        stdout=log,
        stderr=log,
        cwd="/",
        start_new_session=True,
    )


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
