"""gVisor around a warm interpreter: a kernel of its own between snippets and the host's, in bubblewrap's minimal root.

bubblewrap makes the root that its own jail has (jail.py) and holds everything together: gVisor's processes die with
it, gVisor's state lies on a tmpfs in it, and what would break out of gVisor finds that root and no network. The
interpreter inside is root of gVisor's kernel alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator

from torl_core.sandbox import jail

FOLDER = "/run/torl"
"""In bubblewrap's root: gVisor's program, the bundle that describes the worker, and gVisor's state."""
CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]
STDIN = 0
TRY_TIMEOUT_S = 30.0


@contextlib.contextmanager
def launch(fd: int, further: tuple[str, ...]) -> Iterator[jail.Launch]:
    """A warm interpreter in gVisor whose channel is `fd`, with `further` packages (packages.py). It starts when the
    context ends, so that its process can be put into a control group before it has children.

    The channel becomes standard input, as gVisor hands in no other descriptor.
    """
    with _memory_file(_bundle(jail.python_inside(STDIN, "gvisor"))) as bundle:
        waiting, gate = os.pipe()
        try:  # bubblewrap first reads more arguments from the pipe, of which there are none
            words = [jail.bubblewrap(), "--args", str(waiting), *_inside(bundle, further)]
            yield jail.Launch(words, {}, (waiting, bundle), stdin=fd)
        finally:
            os.close(waiting)
            os.close(gate)


def try_start() -> str:
    """What gVisor's kernel calls itself. Half a second. Raises OSError with what went wrong."""
    ask = "import os; print(os.uname().sysname, os.uname().release)"
    with _memory_file(_bundle([jail.python_inside(STDIN, "gvisor")[0], "-I", "-S", "-c", ask])) as bundle:
        words = [jail.bubblewrap(), *_inside(bundle)]
        try:
            done = subprocess.run(
                words,
                env={},
                pass_fds=(bundle,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TRY_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"it did not start within {TRY_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise OSError((done.stderr or done.stdout).strip()[-300:] or f"exit {done.returncode}")
    return done.stdout.strip()


def program() -> str | None:
    return shutil.which("runsc")


def _inside(bundle: int, further: tuple[str, ...] = ()) -> list[str]:
    """bubblewrap's words, and the command in it."""
    identity = [] if os.geteuid() == 0 else ["--unshare-user", "--uid", "0", "--gid", "0"]
    return [
        *(*jail.NAMESPACES, *identity, "--cap-add", "ALL", *jail.LIFE, *jail.root(further)),
        *("--tmpfs", "/run", "--dir", FOLDER, "--file", str(bundle), f"{FOLDER}/config.json"),
        *("--ro-bind", program() or "/usr/bin/runsc", f"{FOLDER}/runsc"),
        *("--remount-ro", "/", "--chdir", FOLDER, "--", *_runsc("run", "-bundle", FOLDER, "worker")),
    ]


def _runsc(*command: str) -> list[str]:
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    options = ["--platform=ptrace", "--network=none", "--ignore-cgroups", f"--root={FOLDER}", *rootless]
    return [f"{FOLDER}/runsc", *options, *command]


def _bundle(arguments: list[str]) -> bytes:
    """An OCI runtime specification."""
    sets = ("bounding", "effective", "inheritable", "permitted")
    process = {
        "args": arguments,
        "env": [f"{name}={value}" for name, value in jail.environment_inside().items()],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(sets, CAPABILITIES),
    }
    mounts = [("/proc", "proc"), ("/dev", "tmpfs"), ("/tmp", "tmpfs"), ("/run", "tmpfs")]
    specification = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "/", "readonly": True},
        "hostname": "sandbox",
        "mounts": [{"destination": destination, "type": kind} for destination, kind in mounts],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }
    return json.dumps(specification).encode()


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("bundle", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def host_tasks(processes: int) -> int:
    """Processes and threads of this machine that so many within gVisor may come to: each is traced by several."""
    return 32 * processes + 256
