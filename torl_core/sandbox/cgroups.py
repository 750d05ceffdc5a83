"""Control groups: what bounds everything one slot's snippets do together, where resource limits bound each process.

A pool makes one folder in every hierarchy it may write to (version 1 or 2, or a mixture), and in it a group per slot
with memory, process and swap limits; with the cpu controller, a snippet of many processes has the share of one. Where
the host gives none of this away, resource limits stand alone and `torl doctor` says so.

A folder is locked by the pool that made it for as long as its process lives, so the next pool knows what a killed one
left behind, in whichever PID namespace that ran.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WANTED = ("memory", "pids", "cpu")
PREFIX = "torl-sandbox-"
REMOVAL_TIMEOUT_S = 5.0
SPARE_PROCESSES = 8
"""Over the limit on processes that a snippet meets first, which fails its fork in the same way."""
CPU_SHARES = {1: ("cpu.shares", 1024, 262144), 2: ("cpu.weight", 100, 10000)}
"""File, what one process weighs, and the most: a pool's folder weighs as much as its slots would alone."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted cgroup tree: where this process stands in it, and where it is mounted."""

    version: int
    controllers: frozenset[str]
    own: Path
    mount: Path


@dataclass(frozen=True, slots=True)
class Caps:
    """Of one slot's group, in bytes and processes."""

    memory_bytes: int
    processes: int

    def files(self, version: int) -> dict[str, dict[str, int]]:
        """What to write, by controller. Swap files are missing where swap is not accounted."""
        memory = self.memory_bytes
        if version == 1:
            memory_files = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
        else:
            memory_files = {"memory.max": memory, "memory.swap.max": 0}
        return {"memory": memory_files, "pids": {"pids.max": self.processes + SPARE_PROCESSES}, "cpu": {}}


def hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Every tree with a controller wanted here. A container's mount may show only a part of the tree."""
    mounts = [_mount(line) for line in (proc / "mountinfo").read_text().splitlines() if " - cgroup" in line]
    found = []
    for line in (proc / "cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        version = 2 if number == "0" and not names else 1
        for kind, root, mount, options in mounts:
            here = kind == version and (version == 2 or set(names.split(",")) <= set(options))
            own = mount / path.removeprefix(root if root != "/" else "").lstrip("/")
            if here and own.is_dir():
                controllers = _words(own / "cgroup.controllers") if version == 2 else frozenset(names.split(","))
                found.append(Hierarchy(version, controllers & set(WANTED), own, mount))
                break
    return [hierarchy for hierarchy in found if hierarchy.controllers]


def _mount(line: str) -> tuple[int, str, Path, list[str]]:
    """Version, root within the tree, mount point and options of a line of mountinfo."""
    left, right = line.split(" - ")
    kind, _, options = right.split(" ", 2)
    return 2 if kind == "cgroup2" else 1, left.split()[3], Path(left.split()[4]), options.split(",")


class Groups:
    """The folders of one pool. `controllers` are those in force, perhaps none."""

    def __init__(self, caps: Caps, slots: int, found: list[Hierarchy] | None = None) -> None:
        self._caps = caps
        self._folders: list[tuple[Path, int, frozenset[str]]] = []
        self._locks = contextlib.ExitStack()
        self._left: set[str] = set()
        self._names = itertools.count()
        self._entering = threading.Lock()
        for hierarchy in hierarchies() if found is None else found:
            self._add(hierarchy, slots)

    @property
    def controllers(self) -> tuple[str, ...]:
        return tuple(name for name in WANTED if any(name in have for _, _, have in self._folders))

    def enter(self, pid: int) -> str:
        """Put a process into a new group and return the group's name. Raises OSError."""
        with self._entering:
            self._remove_left()
            name = str(next(self._names))
            try:
                for folder, version, controllers in self._folders:
                    self._make(folder / name, version, controllers, pid)
            except OSError:
                self._left.add(name)
                raise
        return name

    def _make(self, group: Path, version: int, controllers: frozenset[str], pid: int) -> None:
        group.mkdir()
        for controller in controllers:
            for name, value in self._caps.files(version)[controller].items():
                if (group / name).exists():
                    (group / name).write_text(str(value))
        (group / "cgroup.procs").write_text(str(pid))

    def leave(self, name: str) -> None:
        """The group's processes are gone or going; it is removed once they are."""
        self._left.add(name)

    def close(self) -> None:
        """Remove everything, waiting for processes that are still ending."""
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while self._folders:
            self._folders = [entry for entry in self._folders if not _remove(entry[0])]
            if time.monotonic() > deadline:
                break
            if self._folders:
                time.sleep(0.01)
        self._locks.close()
        self._folders.clear()

    def _add(self, hierarchy: Hierarchy, slots: int) -> None:
        _remove_leftovers(hierarchy.mount)
        for parent in _places(hierarchy):
            with contextlib.suppress(OSError), _locked(parent, wait=True):
                folder = parent / f"{PREFIX}{secrets.token_hex(6)}"
                folder.mkdir()
                try:
                    controllers = hierarchy.controllers
                    if hierarchy.version == 2:
                        controllers = _enable(folder, controllers)
                    if "cpu" in controllers:
                        file, one, most = CPU_SHARES[hierarchy.version]
                        (folder / file).write_text(str(min(one * slots, most)))
                    if controllers:
                        self._locks.enter_context(_locked(folder))
                        self._folders.append((folder, hierarchy.version, controllers))
                        return
                except OSError:
                    folder.rmdir()
                    raise
                folder.rmdir()

    def _remove_left(self) -> None:
        for name in list(self._left):
            if all(_remove(folder / name) for folder, _, _ in self._folders):
                self._left.discard(name)


def _places(hierarchy: Hierarchy) -> Iterator[Path]:
    """Where a folder may be made. Version 2 allows no limits below a group that holds processes, such as our own,
    unless it is the root: then the folder is a sibling of our own, or of one above it."""
    if hierarchy.version == 2:
        _enable(hierarchy.own, hierarchy.controllers)
    yield hierarchy.own
    place = hierarchy.own
    while hierarchy.version == 2 and place != hierarchy.mount:
        place = place.parent
        yield place


def _enable(folder: Path, controllers: frozenset[str]) -> frozenset[str]:
    """Those of the controllers that groups inside `folder` now have."""
    control = folder / "cgroup.subtree_control"
    for name in sorted(controllers & _words(folder / "cgroup.controllers") - _words(control)):
        with contextlib.suppress(OSError):
            control.write_text(f"+{name}")
    return controllers & _words(control)


def _words(file: Path) -> frozenset[str]:
    return frozenset(file.read_text().split())


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Raises OSError when another process holds it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


def _remove_leftovers(mount: Path) -> None:
    """Of killed pools, wherever in the tree they stood: a service or session has a group of its own each time."""
    for place, names, _ in os.walk(mount):
        ours = [name for name in names if name.startswith(PREFIX)]
        names[:] = set(names) - set(ours)
        for name in ours:  # locked: another pool is being opened there, or lives
            with contextlib.suppress(OSError), _locked(Path(place)), _locked(Path(place, name)):
                _remove(Path(place, name))


def _remove(group: Path) -> bool:
    """Whether the group and those below it are gone."""
    try:
        for below in group.iterdir():
            if below.is_dir():
                below.rmdir()
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
