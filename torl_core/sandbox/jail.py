"""The jail's outer wall: bubblewrap's command line, and what of the host is visible inside.

Inside there is a Python in /python, the packages snippets may import in /site, the C libraries, five harmless devices
and an empty /tmp; all of it read-only except /tmp. No /home, /etc, /proc of the host, no network, no environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from torl_core.sandbox.inside.limits import Jail
from torl_core.sandbox.packages import packages

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/usr/lib/locale")
DEVICES = ("null", "zero", "full", "random", "urandom")
UNPRIVILEGED_ID = "65534"
THREADS = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")}
"""Set before numpy is imported: BLAS threads do not survive a fork."""
NO_DIGIT_LIMIT = {"PYTHONINTMAXSTRDIGITS": "0"}
"""Python's own guards servers against slow conversions of long integers; a snippet has its time limit."""
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
"""Otherwise the C library reserves 64 MiB of address space for each thread, which the memory limit counts."""
PROGRAM_FOLDER = Path(__file__).resolve().parents[2]
PROGRAM = "torl_core/sandbox/inside"
START = "from torl_core.sandbox.inside.zygote import main; main({fd}, {jail!r})"
NAMESPACES = [
    "--unshare-pid",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--hostname",
    "sandbox",
]
LIFE = ["--die-with-parent", "--new-session", "--clearenv"]


@dataclass(frozen=True, slots=True)
class Launch:
    """A program that starts a warm interpreter; `fds` stay open in it."""

    words: list[str]
    environment: dict[str, str]
    fds: tuple[int, ...]
    stdin: int = subprocess.DEVNULL


def launch(fd: int, further: tuple[str, ...]) -> Launch:
    """In bubblewrap, with the descriptor `fd` as its channel and `further` packages (packages.py)."""
    variables = [word for name, value in environment_inside().items() for word in ("--setenv", name, value)]
    close = ["--remount-ro", "/", "--chdir", "/"]
    words = [bubblewrap(), *NAMESPACES, *_identity(), *LIFE, *root(further), *close, *variables]
    return Launch([*words, "--", *python_inside(fd, "bubblewrap")], {}, (fd,))


def launch_unjailed(fd: int) -> Launch:
    folder = str(PROGRAM_FOLDER)
    return Launch([sys.executable, *_run(fd, "none")], {**os.environ, **_environment(folder, (folder,))}, (fd,))


def python_inside(fd: int, jail: Jail) -> list[str]:
    return [f"/python/bin/{_base_python().name}", *_run(fd, jail)]


def environment_inside() -> dict[str, str]:
    own = {"HOME": "/tmp", "PATH": "/python/bin", "TZ": "UTC"}
    return _environment("/torl", ("/torl", "/site")) | own | ({"LD_LIBRARY_PATH": "/python/lib"} if _shared() else {})


def _run(fd: int, jail: Jail) -> list[str]:
    return ["-B", "-s", "-c", START.format(fd=fd, jail=jail)]


def _environment(program_folder: str, path: tuple[str, ...]) -> dict[str, str]:
    python = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(path), "TORL_PROGRAM_FOLDER": program_folder}
    return python | {"LANG": "C.UTF-8", **NO_DIGIT_LIMIT, **ONE_HEAP} | THREADS


def bubblewrap() -> str:
    return shutil.which("bwrap") or "/usr/bin/bwrap"


def _identity() -> list[str]:
    """Root makes the mounts as root and the warm interpreter then drops to an id that owns nothing; anybody else does
    it in a user namespace."""
    if os.geteuid() == 0:
        return ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return ["--unshare-user", "--uid", UNPRIVILEGED_ID, "--gid", UNPRIVILEGED_ID]


def root(further: tuple[str, ...] = ()) -> list[str]:
    """bubblewrap's words for everything of the host that is seen inside."""
    words = ["--proc", "/proc", "--dir", "/tmp", "--dir", "/dev", "--symlink", "/tmp", "/dev/shm"]
    for device in DEVICES:
        words += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    return [
        *words,
        *_libraries(),
        *(word for path in map(Path, SYSTEM_FILES) if path.exists() for word in _bind(path, path)),
        *_python(),
        *_packages(further),
        *_bind(PROGRAM_FOLDER / PROGRAM, Path("/torl") / PROGRAM),
    ]


def _libraries() -> list[str]:
    """Where the dynamic loader looks: the loader's own folder, and the multiarch folder where a system has one."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or "none"
    words = []
    for base in map(Path, SYSTEM_LIBRARIES):
        narrow = base / multiarch
        if base.is_symlink():
            words += ["--symlink", str(base.readlink()), str(base)]
        elif base.is_dir():
            words += _bind(narrow if narrow.is_dir() else base, narrow if narrow.is_dir() else base)
    return words


def _bind(source: Path, inside: Path) -> list[str]:
    """The folders above it are made first: those bubblewrap makes by itself are closed to other users."""
    above = [word for folder in reversed(inside.parents[:-1]) for word in ("--dir", str(folder))]
    return [*above, "--ro-bind", str(source.resolve()), str(inside)]


def _base_python() -> Path:
    """The interpreter itself, also when this is a virtual environment's."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _python() -> list[str]:
    """The interpreter moved to /python, where it finds its library by itself; nothing of its site-packages."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    inside = Path("/python/lib") / stdlib.name
    words = [*_bind(_base_python(), Path("/python/bin") / _base_python().name), *_bind(stdlib, inside)]
    for name in ("site-packages", "dist-packages"):
        if (stdlib / name).is_dir():
            words += ["--tmpfs", str(inside / name)]
    library = _shared()
    return [*words, *_bind(library, Path("/python/lib") / library.name)] if library else words


def _shared() -> Path | None:
    """The interpreter's own library, where it is one."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return None
    library = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("INSTSONAME")
    return library if library.exists() else None


def _packages(further: tuple[str, ...]) -> list[str]:
    return [word for path in packages(further).files for word in _bind(path, Path("/site") / path.name)]
