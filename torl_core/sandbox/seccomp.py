"""The system-call filter of a snippet: an allow-list of what numeric Python needs, compiled by libseccomp.

Names are resolved for the machine's own architecture; a name this libseccomp or architecture does not know is left
out, and so refused. Refused calls fail with EPERM, like a missing permission. `clone3` fails with ENOSYS, because its
flags lie in memory where a filter cannot read them and C libraries then fall back to `clone`, whose flags can be read.

Left out although harmless to the kernel: flock and inotify, through which snippets could act on and watch each other
by way of the files they share, and memfd_create, whose memory no resource limit counts.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import functools
import os
import signal
import socket

KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
NOT_EQUAL, LESS, LESS_EQUAL, EQUAL, GREATER_EQUAL, GREATER, MASKED_EQUAL = range(1, 8)
BAD_ARCHITECTURE, OPTIMIZE, BINARY_TREE = 2, 8, 2

_NAMES = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3 pipe
pipe2 fcntl fsync fdatasync sync_file_range fallocate ftruncate truncate fadvise64 readahead sendfile splice tee
vmsplice copy_file_range open openat openat2 creat access faccessat faccessat2 stat fstat lstat newfstatat statx
statfs fstatfs getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat unlink unlinkat symlink
symlinkat readlink readlinkat chmod fchmod fchmodat chown fchown lchown fchownat umask utime utimes utimensat
futimesat getdents getdents64 mmap munmap mremap mprotect madvise
mincore msync brk mlock munlock mlock2 membarrier get_mempolicy poll ppoll select pselect6 epoll_create
epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime
timerfd_gettime signalfd signalfd4 rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigpending
rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack pause alarm setitimer getitimer timer_create
timer_settime timer_gettime timer_getoverrun timer_delete pidfd_open pidfd_send_signal fork vfork execve execveat exit
exit_group wait4 waitid set_tid_address set_robust_list get_robust_list futex futex_waitv rseq arch_prctl
restart_syscall getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp
getsid setsid setpgid getpriority getrlimit setrlimit getrusage times sysinfo uname getcpu sched_yield
sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
sched_rr_get_interval capget time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getrandom sendto
recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockname getpeername getsockopt setsockopt
"""
ALLOWED = tuple(_NAMES.split())

ALLOWED_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""

ALLOWED_PRCTLS = (1, 2, 3, 15, 16, 21, 23, 38, 39)
"""PDEATHSIG set and get, DUMPABLE get, NAME set and get, SECCOMP get, CAPBSET read, NO_NEW_PRIVS set and get."""

NEW_NAMESPACES = 0x7E020080
"""Every CLONE_NEW* flag."""


class _Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises OSError when libseccomp is not installed."""
    lib = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison),
    ]  # fmt: skip
    return lib


@functools.cache
def filter_program() -> bytes:
    """The filter as struct sock_filter entries of 8 bytes. Raises OSError when libseccomp is missing or refuses."""
    lib = _library()
    context = lib.seccomp_init(ERRNO | errno.EPERM)
    try:
        lib.seccomp_attr_set(context, BAD_ARCHITECTURE, KILL_PROCESS)
        lib.seccomp_attr_set(context, OPTIMIZE, BINARY_TREE)
        for name in ALLOWED:
            _rule(context, ALLOW, name)
        _argument_rules(context)
        fd = os.memfd_create("seccomp")
        try:
            _check(lib.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
    finally:
        lib.seccomp_release(context)


def _argument_rules(context: int) -> None:
    _rule(context, ERRNO | errno.ENOSYS, "clone3")
    _rule(context, ALLOW, "clone", (0, MASKED_EQUAL, NEW_NAMESPACES, 0))
    _rule(context, ALLOW, "socketpair", (0, EQUAL, socket.AF_UNIX, 0))
    _rule(context, ALLOW, "prlimit64", (0, EQUAL, 0, 0))
    _rule(context, ALLOW, "personality", (0, EQUAL, 0xFFFFFFFF, 0))
    for number in ALLOWED_IOCTLS:
        _rule(context, ALLOW, "ioctl", (1, EQUAL, number, 0))
    for number in ALLOWED_PRCTLS:
        _rule(context, ALLOW, "prctl", (0, EQUAL, number, 0))
    for name, signal_argument in (("kill", 1), ("tkill", 1), ("tgkill", 2)):
        _signal_rules(context, name, signal_argument)


def _signal_rules(context: int, name: str, signal_argument: int) -> None:
    """A snippet's main process is PID 1, which Linux shields from its own SIGKILL: the filter ends it instead."""
    _rule(context, ALLOW, name, (signal_argument, NOT_EQUAL, signal.SIGKILL, 0))
    kills = (signal_argument, EQUAL, signal.SIGKILL, 0)
    _rule(context, ALLOW, name, kills, (0, GREATER, 1, 0))
    _rule(context, KILL_PROCESS, name, kills, (0, LESS_EQUAL, 1, 0))


def _rule(context: int, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
    lib = _library()
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number < 0:  # unknown here, or another architecture's
        return
    array = (_Comparison * max(1, len(comparisons)))(*[_Comparison(*c) for c in comparisons])
    _check(lib.seccomp_rule_add_array(context, action, number, len(comparisons), array), name)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp refused {what}: {os.strerror(-result)}")
