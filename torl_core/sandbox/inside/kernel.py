"""The few Linux calls that Python 3.11 does not wrap. Each raises OSError with the call's name.

They go through `ctypes.PyDLL`, which keeps the interpreter lock: this program has one thread, and `fork` must not be
left half way through giving the lock away.
"""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 8, 22, 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
CAP_SYS_ADMIN = 21
SFD_NONBLOCK, SFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
SECCOMP_MODE_FILTER = 2
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25
READ, WRITE, EXECUTE = 1, 2, 4
ADDR_NO_RANDOMIZE, PERSONALITY_QUERY = 0x0040000, 0xFFFFFFFF
SYS_CLONE = {"x86_64": 56, "aarch64": 220}

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.madvise.argtypes = _libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.personality.argtypes = [ctypes.c_ulong]
_quick = ctypes.PyDLL(None)
"""For what every snippet calls. Each page written on the way is a page copied: nothing keeps errno, and arguments are
plain integers. What fails is called once more through `_libc`."""
_quick.fork.argtypes = []
for _library in (_libc, _quick):
    _library.capset.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    _library.sigprocmask.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    _library.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _call(name: str, *args: object) -> int:
    result: int = getattr(_libc, name)(*args)
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def fork() -> int:
    """fork(2) without Python's at-fork hooks.

    The hooks (reseeding, lock reinitialisation) serve programs with threads; here they would only copy a megabyte of
    shared pages per snippet, which is half of what a snippet costs, and reseed what is meant to stay deterministic.
    """
    pid: int = _quick.fork()
    return pid if pid >= 0 else _call("fork")  # for its error


def fork_into(namespaces: int) -> int:
    """fork(2) whose child begins in new namespaces. The child must not use threads: the C library misses its new id."""
    return _call("syscall", SYS_CLONE[os.uname().machine], namespaces | signal.SIGCHLD, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    _call("unshare", flags)


def setns(fd: int, flags: int) -> None:
    _call("setns", fd, flags)


def prctl(option: int, argument: int) -> int:
    return _call("prctl", option, argument, 0, 0, 0)


def mount_tmpfs(path: str, options: str, flags: int = 0) -> None:
    _call("mount", b"tmpfs", path.encode(), b"tmpfs", MS_NOSUID | MS_NODEV | flags, options.encode())


def bind(source: str, target: str) -> None:
    _call("mount", source.encode(), target.encode(), b"none", MS_BIND, b"")


def make_mounts_private() -> None:
    _call("mount", b"none", b"/", b"none", MS_REC | MS_PRIVATE, b"")


def detach(path: str) -> None:
    _call("umount2", path.encode(), MNT_DETACH)


def drop_bounding_set() -> None:
    """Whatever is executed from here on can gain no capability."""
    capability = 0
    while _libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        prctl(PR_CAPBSET_DROP, capability)
        capability += 1


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_VERSION_3 = _CapabilityHeader(0x20080522, 0)
_Capabilities = ctypes.c_uint32 * 6
_NO_CAPABILITIES = _Capabilities()
_HEADER_AT, _NONE_AT = ctypes.addressof(_VERSION_3), ctypes.addressof(_NO_CAPABILITIES)


def drop_capabilities() -> None:
    if _quick.capset(_HEADER_AT, _NONE_AT):
        _call("capset", _HEADER_AT, _NONE_AT)  # for its error


def keep_only_capability(number: int) -> None:
    only = _Capabilities(1 << number, 1 << number)
    _call("capset", _HEADER_AT, ctypes.addressof(only))


_CHILD_ENDED = ctypes.create_string_buffer((1 << signal.SIGCHLD - 1).to_bytes(128, "little"), 128)
"""A sigset_t."""
_UNBLOCK, _CHILD_ENDED_AT = int(signal.SIG_UNBLOCK), ctypes.addressof(_CHILD_ENDED)


def child_signals() -> int:
    """A descriptor that is readable when a child has ended. SIGCHLD stays blocked, in forked processes too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    return _call("signalfd", -1, _CHILD_ENDED, SFD_NONBLOCK | SFD_CLOEXEC)


def unblock_child_signals() -> None:
    """As Python's own call, whose enumerations lie on forty more pages."""
    if _quick.sigprocmask(_UNBLOCK, _CHILD_ENDED_AT, None):
        _call("sigprocmask", _UNBLOCK, _CHILD_ENDED_AT, None)  # for its error


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Filter:
    """A seccomp program, kept in memory so that installing it is one call. It needs PR_SET_NO_NEW_PRIVS beforehand."""

    def __init__(self, code: bytes) -> None:
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(code) // 8, ctypes.addressof(self._code))
        self._address = ctypes.addressof(self._program)

    def install(self) -> None:
        if _quick.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self._address, 0, 0):
            _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self._address, 0, 0)  # for its error


def collapse(start: int, length: int) -> None:
    """Make huge pages of this stretch of memory; without effect where there are none."""
    _libc.madvise(start, length, MADV_HUGEPAGE)
    _libc.madvise(start, length, MADV_COLLAPSE)


def protect(start: int, end: int, access: int) -> None:
    """Without effect where that is not allowed."""
    _libc.mprotect(start, end - start, access)


def disable_address_randomisation() -> None:
    """From the next execve on."""
    _call("personality", _call("personality", PERSONALITY_QUERY) | ADDR_NO_RANDOMIZE)
