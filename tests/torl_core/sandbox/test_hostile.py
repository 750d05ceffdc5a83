# ruff: noqa: E501 (one snippet a line reads better than a wrapped one)
"""Hostile snippets in the jail, as three tables: how each ends, what is refused, which system calls are refused.

After every one of them the host (a file, a process and the mounts), the pool and the next snippets are untouched.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torl_core.sandbox.conftest import Bench
from torl_core.config import SandboxConfig
from torl_core.sandbox import open_sandbox

NEXT = """
import builtins, math, os, sys, numpy, sympy
print(os.getpid(), os.listdir("/tmp"), math.pi, numpy.arange(3).sum(), sympy.Integer(6).is_prime, hasattr(builtins, "leak"))
open("/tmp/leak-from-a-snippet", "w").close()
open("/tmp/room", "wb").write(bytes(8 << 20))
import threading
t = threading.Thread(target=print, args=("thread",)); t.start(); t.join()
"""
NEXT_OUTPUT = "1 [] 3.141592653589793 3 False False\nthread\n"

ENDS = {
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout"}),
    "fork bomb that stops at the limit": ("import os\nwhile True: os.fork()", {"error", "timeout"}),
    "thread bomb": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
        {"error", "memory", "timeout"},
    ),
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory"}),
    "memory bomb in children": (
        "import os\nfor _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(100 << 20); os._exit(0)\nwhile True: pass",
        {"timeout", "memory"},
    ),
    "memory bomb that does not give in": (
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: pass",
        {"timeout"},
    ),
    "endless loop": ("while True: pass", {"timeout"}),
    "sleeping for ever": ("import time\ntime.sleep(10**6)", {"timeout"}),
    "waiting on stdin": ("input()", {"error"}),
    "deaf to signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: pass",
        {"timeout"},
    ),
    "deaf to KeyboardInterrupt": ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", {"timeout"}),
    "endless output": ("while True: print('x' * 1000)", {"output_limit"}),
    "endless output that ignores errors": (
        "import os\nwhile True:\n    try: os.write(1, b'x' * 65536)\n    except OSError: pass",
        {"output_limit"},
    ),
    "endless stderr": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", {"output_limit"}),
    "a huge file": ("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))", {"error"}),
    "a sparse file": ("open('big', 'wb').truncate(1 << 40)\nprint('fine')", {"ok", "error"}),
    "many files": ("i = 0\nwhile True:\n    open(str(i), 'w').close(); i += 1", {"error"}),
    "a deep tree": (
        "import os\nfor i in range(500):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)\nprint('made')",
        {"ok"},
    ),
    "filling /dev/shm": ("f = open('/dev/shm/big', 'wb')\nwhile True: f.write(bytes(1 << 20))", {"error"}),
    "os._exit": ("import os\nos._exit(0)", {"ok"}),
    "a segmentation fault": ("import ctypes\nctypes.memset(0, 0, 1)", {"crash"}),
    "abort": ("import os\nos.abort()", {"crash"}),
    "a stack overflow in C": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr([self])\nrepr(A())",
        {"crash", "memory", "error"},
    ),
    "deep recursion": ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", {"crash", "memory", "timeout"}),
    "closed standard streams": (
        "import os, sys\nsys.stdout.close(); sys.stderr.close()\nfor fd in range(256):\n    try: os.close(fd)\n    except OSError: pass",
        {"ok", "error"},
    ),
    "poisoned standard streams": ("import sys\nsys.stdout = sys.stderr = sys.stdin = 5\n1/0", {"error"}),
    "no standard streams": ("import sys\nsys.stdout = sys.stderr = None\nprint('lost')", {"ok"}),
    "a broken excepthook": ("import sys\nsys.excepthook = None\n1/0", {"error"}),
    "an exit function that never ends": ("import atexit\natexit.register(lambda: [None for _ in iter(int, 1)])", {"timeout", "memory"}),
    "a thread that never ends": ("import threading, time\nthreading.Thread(target=time.sleep, args=(10**6,)).start()", {"timeout"}),
    "daemons left behind": (
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        "            while True: pass\n        os._exit(0)\nprint('left')",
        {"ok"},
    ),
    "kill -1": ("import os, signal\nos.kill(-1, signal.SIGKILL)\nprint('alone')", {"ok", "error"}),
    "signals to everybody": (
        "import os\nfor pid in range(1, 5000):\n    for s in (15, 19):\n        try: os.kill(pid, s)\n        except OSError: pass\nprint('tried')",
        {"ok"},
    ),
    "kill the parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGTERM)\nprint(os.getppid())", {"ok", "error"}),
    "kill the process group": ("import os, signal\nos.killpg(0, signal.SIGKILL)", {"crash"}),
    "poisoned modules": (
        "import builtins, math, numpy, os, sys\nbuiltins.print = None\nbuiltins.leak = 1\nmath.pi = 3\nnumpy.arange = None\n"
        "sys.modules.clear()\nos.fork = None",
        {"ok", "error"},
    ),
    "a poisoned interpreter": (
        "import ctypes, gc\nfor o in gc.get_objects()[:100000]:\n    if isinstance(o, dict):\n        try: o.clear()\n        except Exception: pass",
        {"ok", "error", "crash", "timeout"},
    ),
    "scribbling over small integers": (
        "import ctypes\nctypes.memset(id(7) + 24, 9, 1)\nprint(7)",
        {"ok", "crash", "error"},
    ),
    "unprintable bytes": (r"import os; os.write(1, bytes(range(256)))", {"ok"}),
    "an integer of a million digits": ("print(10**1000000)", {"output_limit", "timeout"}),
    "a traceback of megabytes": ("raise ValueError('x' * 5_000_000)", {"error"}),
    "a very long traceback": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return g(n - 1) if n else 1/0\ndef g(n): return f(n - 1) if n else 1/0\nf(15000)",
        {"error", "crash"},
    ),
    "an exception that cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise self\nraise E()",
        {"error"},
    ),
    "an alarm": ("import signal\nsignal.alarm(1)\nwhile True: pass", {"timeout", "crash"}),
    "catastrophic regular expression": ("import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", {"timeout"}),
    "a power tower": ("print(9**9**9**9)", {"timeout", "memory", "error"}),
    "the compiler's memory": ("exec('(' * 10**6)", {"error", "memory", "crash"}),
    "the compiler's recursion": ("x = " + "+".join(["1"] * 50000), {"error"}),
    "a line of megabytes": ("x = '" + "a" * 5_000_000, {"error"}),
    "a codec that does not exist": ("# -*- coding: nonsense -*-\nprint(1)", {"error"}),
    "memory outside of any address space": (
        "import os\nfor _ in range(200):\n    fd = os.memfd_create('x')\n    os.write(fd, bytes(16 << 20))",
        {"error"},
    ),
    "memory in pipes": (
        "import fcntl, os\nfor _ in range(120):\n    r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); os.write(w, bytes(1 << 20))",
        {"error"},
    ),
    "memory in sockets": (
        "import socket\nheld = []\nwhile True:\n    a, b = socket.socketpair(); a.setblocking(False); held += [a, b]\n    try:\n"
        "        while True: a.send(bytes(1 << 16))\n    except BlockingIOError: pass",
        {"error"},
    ),
    "memory in shared maps": ("import mmap\nheld = []\nwhile True:\n    held.append(mmap.mmap(-1, 1 << 24)); held[-1].write(bytes(1 << 24))", {"error", "memory"}),
    "memory of forked children": (
        "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (150 << 20); time.sleep(60)\ntime.sleep(60)",
        {"timeout", "memory"},
    ),
    "a device without end": ("open('/dev/zero', 'rb').read()", {"memory"}),
    "a bomb of compressed zeros": (
        "import zlib\nd = zlib.compress(bytes(10**8))\nx = [zlib.decompress(d) for _ in range(50)]", {"memory", "timeout"},
    ),
    "all descriptors": ("import os\nwhile True: os.dup(0)", {"error"}),
    "replaced by another program": (
        "import os, sys\nopen('a.py', 'w').write('import os, sys\\nos.execv(sys.executable, [sys.executable, \"a.py\"])')\n"
        "os.execv(sys.executable, [sys.executable, 'a.py'])",
        {"timeout"},
    ),
    "stopped": ("import os, signal\nos.fork()\nos.kill(0, signal.SIGSTOP)\nprint('on')", {"ok"}),
    "a storm of timers": ("import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)\ntime.sleep(1)", {"ok", "crash"}),
    "SIGTERM to itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nprint('on')", {"ok", "crash"}),
    "a child that kills its parent": (
        "import os\nif os.fork() == 0:\n    os.kill(1, 9); os.kill(1, 11); os._exit(0)\nos.wait()\nprint('alive')", {"ok"},
    ),
    "a deaf child that outlives it": (
        "import os, signal, time\nif os.fork() == 0:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); time.sleep(600)\nos._exit(0)",
        {"ok"},
    ),
    "a handler that swallows a crash": (
        "import ctypes, signal\nsignal.signal(signal.SIGSEGV, lambda *_: None)\nctypes.string_at(0)", {"timeout"},
    ),
    "every builtin deleted": ("import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)", {"error"}),
    "a trace function that raises": ("import sys\nsys.settrace(lambda *_: 1/0)\ndef f(): pass\nf()", {"error"}),
    "objects that rise again": ("class A:\n    def __del__(self): A()\nA()", {"timeout", "ok"}),
    "an exit status beyond any integer": ("import sys\nsys.exit(2**80)", {"error"}),
    "an exit with megabytes": ("raise SystemExit('x' * 10**7)", {"error"}),
    "an exit with more than may be written": ("raise SystemExit('x' * 10**7 * 2)", {"output_limit"}),
    "output moved back": ("import os\nprint('x' * 9)\nos.lseek(1, 0, 0)", {"ok"}),
    "output moved far ahead": ("import os\nos.lseek(1, 1 << 30, 0)", {"output_limit"}),
    "links in a circle": ("import os\nos.symlink('a', 'b'); os.symlink('b', 'a'); open('a')", {"error"}),
    "the longest path": ("import os\nwhile True: os.mkdir('x' * 255); os.chdir('x' * 255)", {"error"}),
    "a debugger": ("breakpoint()", {"error"}),
    "a password": ("import getpass\ngetpass.getpass()", {"error"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], object]]:
    """A file that anybody could write and a process that anybody could hear of, looked at from outside."""
    canary = tmp_path_factory.mktemp("host") / "canary"
    canary.write_text("untouched")
    canary.chmod(0o666)
    with subprocess.Popen(["sleep", "600"]) as process:

        def state() -> object:
            mounts = Path("/proc/self/mounts").read_text()
            return canary.read_text(), process.poll(), mounts, Path("/tmp/leak-from-a-snippet").exists()

        yield state
        process.kill()


@pytest.fixture
def untouched(jailed: Bench, host: Callable[[], object]) -> Iterator[None]:
    """Around a test: host, pool and the snippets after it, on both slots, are as before."""
    before, stats = host(), jailed.pool.stats
    yield
    for _ in range(2):
        after = jailed.execute(NEXT, timeout_s=10)
        assert (after.status, after.stdout, after.stderr) == ("ok", NEXT_OUTPUT, "")
    assert host() == before
    now = jailed.pool.stats
    assert (now.slots, now.slots_replaced, now.workers_replaced) == (2, stats.slots_replaced, stats.workers_replaced)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("code", "statuses"), ENDS.values(), ids=ENDS)
def test_it_ends(jailed, code, statuses):
    timeout_s = 1.5 if "timeout" in statuses else 20  # what a limit stops, it stops on a slow machine as well
    begin = time.monotonic()
    call = jailed.execute(code, timeout_s)
    assert call.status in statuses, call
    assert time.monotonic() - begin < timeout_s + 8.5


def test_the_last_line_of_a_long_traceback_still_names_the_exception(jailed):
    call = jailed.execute("raise ValueError('x' * 5_000_000)")
    last = call.stderr.rstrip().rpartition("\n")[2]
    assert last.startswith("ValueError: xxx")
    assert " [...] " in last
    assert len(call.stderr) < 16384


REFUSED = {
    "TCP": "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
    "UDP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
    "IPv6": "import socket; socket.socket(socket.AF_INET6)",
    "unix sockets": "import socket; socket.socket(socket.AF_UNIX).bind('\\0leak')",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "raw packets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "listening": "import socket; socket.create_server(('127.0.0.1', 0))",
    "cloud metadata": "import urllib.request; urllib.request.urlopen('http://169.254.169.254/latest/meta-data', timeout=1)",
    "/etc/passwd": "open('/etc/passwd').read()",
    "/etc/shadow": "open('/etc/shadow').read()",
    "the host's processes": "open('/proc/1/environ').read()",
    "own memory map": "open('/proc/self/maps').read()",
    "/sys": "import os; os.listdir('/sys')",
    "/home": "import os; os.listdir('/home')",
    "/root": "import os; os.listdir('/root')",
    "a way back through a link": "import os; os.symlink('/etc/passwd', '/tmp/l'); open('/tmp/l').read()",
    "a shell": "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'], check=True)",
    "writing to the library": "import os, numpy; open(numpy.__file__, 'a')",
    "writing to the root": "open('/x', 'w')",
    "writing to /dev": "open('/dev/x', 'w')",
    "a disk": "import os; os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0))",
    "setuid": "import os; os.setuid(0)",
    "setgroups": "import os; os.setgroups([0])",
    "chroot": "import os; os.chroot('/tmp')",
    "a higher priority": "import os; os.nice(-5)",
    "a higher memory limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "a higher process limit": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1))",
    "a host name": "import socket; socket.sethostname('x')",
    "memory of another process": "open('/proc/1/mem', 'rb')",
    "a lock on a shared file": "import fcntl, sys; fcntl.flock(open(sys.executable, 'rb'), fcntl.LOCK_EX)",
    "attributes of a file": "import os; os.setxattr('/tmp', 'user.x', b'1')",
    "a pipe with a name": "import os; os.mkfifo('f')",
    "a real-time scheduler": "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "a listening abstract socket": "import socket; s = socket.socket(socket.AF_UNIX); s.bind(''); s.listen()",
    "vsock": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "DNS": "import socket; socket.getaddrinfo('example.com', 443)",
    "pip": "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'], check=True)",
    "the slot's descriptors": "import os; os.listdir('/proc/self/fd')",
    "/run": "import os; os.listdir('/run')",
    "/var": "import os; os.listdir('/var')",
    "removing the library": "import shutil, numpy; shutil.rmtree(numpy.__path__[0])",
    "renaming /tmp": "import os; os.rename('/tmp', '/tmp2')",
    "the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, 0)",
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_it_is_refused(jailed, code):
    call = jailed.execute(code)
    assert call.status == "error", call
    assert "rror" in call.stderr, call


CALLS = {
    "mount": (165, "0, b'/tmp', b'tmpfs', 0, 0"),
    "umount2": (166, "b'/tmp', 2"),
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "clone with namespaces": (56, "0x10000000 | 17, 0, 0, 0, 0"),
    "clone3": (435, "b'\\0' * 88, 88"),
    "pivot_root": (155, "b'/tmp', b'/tmp'"),
    "ptrace": (101, "0, 0, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "keyctl": (250, "0, -3, 0, 0, 0"),
    "add_key": (248, "b'user', b'x', b'y', 1, -3"),
    "bpf": (321, "0, 0, 0"),
    "perf_event_open": (298, "0, 0, 0, 0, 0"),
    "io_uring_setup": (425, "8, b'\\0' * 120"),
    "userfaultfd": (323, "0"),
    "shmget": (29, "0, 4096, 0o1666"),
    "msgget": (68, "5, 0o1666"),
    "mq_open": (240, "b'x', 66, 0o666, 0"),
    "memory of another": (438, "3, 0, 0"),
    "open_by_handle_at": (304, "0, 0, 0"),
    "init_module": (175, "0, 0, 0"),
    "personality": (135, "0x40000"),
    "reboot": (169, "0, 0, 0, 0"),
    "syslog": (103, "3, 0, 0"),
    "seccomp": (317, "0, 0, 0"),
    "flock": (73, "0, 2"),
    "inotify_init1": (294, "0"),
    "memfd_create": (319, "b'x', 0"),
    "quotactl": (179, "0, 0, 0, 0"),
    "swapon": (167, "b'/tmp', 0"),
    "iopl": (172, "3"),
    "kexec_load": (246, "0, 0, 0, 0"),
    "fsopen": (430, "b'tmpfs', 0"),
    "move_mount": (429, "0, b'', 0, b'', 0"),
    "landlock": (444, "0, 0, 0"),
    "name_to_handle_at": (303, "0, 0, 0, 0, 0"),
    "mount_setattr": (442, "0, b'', 0, 0, 0"),
    "process_madvise": (440, "0, 0, 0, 0, 0"),
    "kcmp": (312, "1, 1, 0, 0, 0"),
    "modify_ldt": (154, "0, 0, 0"),
    "fanotify_init": (300, "0, 0"),
    "a call of the far future": (999, "0"),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("number", "arguments"), CALLS.values(), ids=CALLS)
def test_a_system_call_is_refused(jailed, number, arguments):
    code = f"import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nprint(c.syscall({number}, {arguments}), ctypes.get_errno())"
    expected = "-1 38\n" if number == 435 else "-1 1\n"
    call = jailed.execute(code)
    assert (call.status, call.stdout) == ("ok", expected)


def test_32_bit_system_calls_end_the_snippet(jailed):
    """int 0x80 reaches the kernel's other table, where the numbers of the filter mean something else."""
    code = (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\nprint('called')"
    )
    call = jailed.execute(code)
    assert (call.status, call.stdout) == ("crash", "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_x32_system_calls_end_the_snippet(jailed):
    """The same numbers with a bit set reach a third table."""
    call = jailed.execute("import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)\nprint('called')")
    assert (call.status, call.stdout) == ("crash", "")


def test_nothing_of_the_host_is_in_the_environment(jailed, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    call = jailed.execute("import os\nprint(sorted(os.environ), os.environ['HOME'])")
    assert "SECRET" not in call.stdout
    assert call.stdout.endswith("/tmp\n")


def test_the_identity_inside(jailed):
    code = (
        "import ctypes, os\nc = ctypes.CDLL(None)\nprint(os.getpid(), os.getuid(), os.getgid(), os.getgroups() or 'none')\n"
        "print(c.prctl(21, 0, 0, 0, 0), c.prctl(39, 0, 0, 0, 0))\n"  # seccomp mode 2, no new privileges
        "import struct; h = struct.pack('Ii', 0x20080522, 0); d = ctypes.create_string_buffer(24)\n"
        "print(c.syscall(125, h, d), d.raw == bytes(24), sum(c.prctl(23, i, 0, 0, 0) for i in range(40)))\n"
        "print(os.uname().nodename, os.listdir('/proc'), os.path.exists('/sys'))"
    )
    lines = jailed.execute(code).stdout.splitlines()
    identity, groups = lines[0][:13], lines[0][14:]
    assert identity == "1 65534 65534"
    # Linux lets no ordinary user give up supplementary groups: inside they have lost their numbers.
    mine = set(os.getgroups()) - {os.getgid()} if os.geteuid() else set()
    assert groups in ("none", "[65534]", str([65534] * (1 + len(mine))))
    assert lines[1:] == ["2 1", "0 True 0", "sandbox [] False"]


def test_no_descriptor_is_inherited(jailed):
    code = "import os\nfor fd in range(3, 1024):\n    try: print(fd, os.fstat(fd))\n    except OSError: pass"
    assert jailed.execute(code).stdout == ""


def test_no_text_of_an_earlier_snippet_is_in_memory(jailed):
    """Neither the slot nor the warm interpreter ever holds what snippets say: search all readable memory for it."""
    word = "Xylophone" + "Quartz"
    for _ in range(4):
        assert jailed.execute(f"secret = '{word}' * 3\nprint(secret)").status == "ok"
    code = (
        "import gc, sys, linecache\nneedle = 'Xylophone' + 'Quartz'\n"
        "print(any(needle in str(v) for m in list(sys.modules.values()) if m.__name__ != '__main__' for v in vars(m).values()\n"
        "          if isinstance(v, (str, list, dict))))"
    )
    assert jailed.execute(code, timeout_s=30).stdout == "False\n"


def test_processes_of_a_bomb_are_counted_per_slot(jailed):
    """A snippet at its process limit does not keep its neighbour from starting one."""
    bomb = "import os, time\nfor _ in range(200):\n    try:\n        if os.fork() == 0: time.sleep(5)\n    except OSError: pass\nwhile True: pass"
    probe = "import threading\nfor _ in range(9): threading.Thread(target=lambda: None).start()\nprint('ok')"

    async def work():
        task = asyncio.create_task(jailed.pool.execute(bomb, 2))
        await asyncio.sleep(0.7)
        call = await jailed.pool.execute(probe, 5)
        assert not task.done()
        assert (await task).status == "timeout"
        return call

    assert jailed.run(work()).stdout == "ok\n"


def test_as_many_threads_as_the_process_limit_allows_fit_into_the_memory_limit():
    code = (
        "import threading, time\nmade = []\ntry:\n    while True:\n        t = threading.Thread(target=time.sleep, args=(1,))\n"
        "        t.start(); made.append(t)\nexcept RuntimeError: pass\nprint(len(made))"
    )
    memory = (
        "import threading\nheld = []\ndef f():\n    try:\n        while True: held.append(bytearray(1 << 20))\n"
        "    except MemoryError: pass\nt = [threading.Thread(target=f) for _ in range(16)]\nfor x in t: x.start()\n"
        "for x in t: x.join()\nmost = len(held); held.clear()\nprint(most)"
    )

    async def work():
        pool = await open_sandbox(SandboxConfig(workers=1, slots_per_worker=1))  # 64 processes, 512 MiB
        try:
            return await pool.execute(code, 30), await pool.execute(memory, 30)
        finally:
            await pool.close()

    threads, memory = asyncio.run(work())
    assert (threads.status, threads.stdout) == ("ok", "63\n")  # and the main thread
    assert 300 < int(memory.stdout) < 512


def test_the_process_limit_is_exact(jailed):
    code = (
        "import os, time\nn = 1\nwhile True:\n    try:\n        if os.fork() == 0:\n            time.sleep(9); os._exit(0)\n"
        "        n += 1\n    except OSError: break\nprint(n)\nos._exit(0)"
    )
    assert jailed.execute(code).stdout == "32\n"
