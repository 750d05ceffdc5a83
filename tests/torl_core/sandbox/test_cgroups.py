"""Control groups on this machine's real trees, and which trees are found on machines of other kinds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torl_core.config import SandboxConfig
from torl_core.sandbox import cgroups, open_sandbox
from torl_core.sandbox.cgroups import Caps, Groups, Hierarchy, hierarchies

ROOT = Path(__file__).parents[3]
CAPS = Caps(memory_bytes=256 << 20, processes=32)


def _folders(groups: Groups) -> list[Path]:
    return [folder for folder, _, _ in groups._folders]


@pytest.fixture(scope="module", autouse=True)
def _here() -> None:
    groups = Groups(CAPS, slots=1)
    have = groups.controllers
    groups.close()
    if not have:
        pytest.skip("no writable control groups here")


def _machine(tmp_path: Path, mountinfo: str, cgroup: str, folders: dict[str, str]) -> Path:
    """A /proc/self of another machine whose trees stand under tmp_path; folders by path, with their controllers."""
    for path, controllers in folders.items():
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "mountinfo").write_text(mountinfo.replace("BASE", str(tmp_path)))
    (tmp_path / "cgroup").write_text(cgroup)
    return tmp_path


def test_a_systemd_host_with_version_2(tmp_path):
    mounts = "30 24 0:26 / BASE/fs rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    own = "fs/user.slice/user-0.slice/session-3.scope"
    proc = _machine(tmp_path, mounts, "0::/user.slice/user-0.slice/session-3.scope\n", {own: "cpu io memory pids"})
    assert hierarchies(proc) == [
        Hierarchy(2, frozenset({"cpu", "memory", "pids"}), tmp_path / own, tmp_path / "fs"),
    ]


def test_a_container_with_version_1_sees_its_part_of_each_tree(tmp_path):
    mounts = (
        "31 23 0:28 /docker/abc BASE/memory rw - cgroup cgroup rw,memory\n"
        "32 23 0:29 /docker/abc BASE/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 23 0:30 /docker/abc BASE/blkio rw - cgroup cgroup rw,blkio\n"
    )
    lines = "9:memory:/docker/abc\n8:cpu,cpuacct:/docker/abc\n7:blkio:/docker/abc\n0::/\n"
    proc = _machine(tmp_path, mounts, lines, {"memory": "", "cpu": "", "blkio": ""})
    assert hierarchies(proc) == [
        Hierarchy(1, frozenset({"memory"}), tmp_path / "memory", tmp_path / "memory"),
        Hierarchy(1, frozenset({"cpu"}), tmp_path / "cpu", tmp_path / "cpu"),
    ]


def test_a_mixture_takes_each_controller_where_it_is(tmp_path):
    mounts = (
        "31 23 0:28 / BASE/memory rw - cgroup cgroup rw,memory\n32 23 0:29 / BASE/unified rw - cgroup2 cgroup2 rw\n"
    )
    proc = _machine(tmp_path, mounts, "4:memory:/job\n0::/\n", {"memory/job": "", "unified": "pids hugetlb"})
    assert [(h.version, sorted(h.controllers)) for h in hierarchies(proc)] == [(1, ["memory"]), (2, ["pids"])]


def test_a_machine_without_control_groups(tmp_path):
    proc = _machine(tmp_path, "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "", {})
    assert hierarchies(proc) == []
    groups = Groups(CAPS, slots=2, found=[])
    assert groups.controllers == ()
    assert groups.enter(os.getpid()) == "0"
    groups.close()


def test_a_pool_has_a_limited_group_per_slot_and_leaves_none():
    config = SandboxConfig(workers=1, slots_per_worker=2, memory_mib=256, max_processes=16)

    async def work():
        pool = await open_sandbox(config)
        folders = _folders(pool._groups)
        limits = [
            (group / name).read_text().strip()
            for folder in folders
            for group in folder.iterdir()
            if group.is_dir()
            for name in ("memory.limit_in_bytes", "memory.max", "pids.max")
            if (group / name).exists()
        ]
        members = [
            (group / "cgroup.procs").read_text() for folder in folders for group in folder.iterdir() if group.is_dir()
        ]
        await pool.close()
        return folders, limits, members

    folders, limits, members = asyncio.run(work())
    assert sorted(set(limits)) in (["25", str((256 + 64 + 32 + 128) << 20)], ["25"], [str((256 + 64 + 32 + 128) << 20)])
    assert len(members) == 2 * len(folders)
    assert all(member.strip().isdigit() for member in members)
    assert not any(folder.exists() for folder in folders)


def test_the_processes_of_a_snippet_share_one_memory_limit(jailed):
    """256 MiB for each process, and eight of them: the kernel ends what passes the slot's limit, and nothing else."""
    if "memory" not in jailed.pool._groups.controllers:
        pytest.skip("no memory controller here")
    code = (
        "import os, time\n"
        "pids = []\n"
        "for _ in range(8):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        x = bytearray(b'x') * (200 << 20); time.sleep(0.5); os._exit(0)\n"
        "    pids.append(pid)\n"
        "print(sorted({os.waitpid(pid, 0)[1] for pid in pids}))"
    )
    call = jailed.execute(code, timeout_s=20)
    assert (call.status, call.stdout) in (("ok", "[0, 9]\n"), ("ok", "[9]\n"), ("memory", "")), call
    assert jailed.execute("print('next')").stdout == "next\n"


KILLED_POOL = """
import os, signal, sys
from pathlib import Path
from torl_core.sandbox.cgroups import Caps, Groups
for place in sys.argv[1:]:
    Path(place, "cgroup.procs").write_text(str(os.getpid()))
groups = Groups(Caps(1 << 28, 8), 1)
for folder, _, _ in groups._folders:
    (folder / "slot").mkdir()
    print(folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("where", ["in the same group", "in another group"])
def test_leftovers_of_a_killed_pool_are_removed_and_a_living_pools_are_not(where):
    """A session or service has a group of its own each time, so the next pool seldom stands where the last one did."""
    living = Groups(CAPS, slots=1)
    others = [h.own / "another" for h in hierarchies() if h.version == 1] if where == "in another group" else []
    for other in others:
        other.mkdir()
    words = [sys.executable, "-c", KILLED_POOL, *map(str, others)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    left = [Path(line) for line in done.stdout.split()]
    assert left, done.stderr
    assert all(folder.is_dir() for folder in left)
    assert [folder.parent for folder in left if folder.parent in others] == [f.parent for f in left if others]
    Groups(CAPS, slots=1).close()
    assert not any(folder.exists() for folder in left)
    assert all(folder.is_dir() for folder in _folders(living))
    living.close()
    for other in others:
        other.rmdir()


VERSION_2 = """
import os, signal, sys
from pathlib import Path
from torl_core.sandbox import cgroups
mount, controller = Path(sys.argv[1]), sys.argv[2]
own = mount / "torl-test"
(own / "cgroup.procs").write_text(str(os.getpid()))
cgroups.WANTED = (controller,)
cgroups.Caps.files = lambda self, version: {controller: {}}
(tree,) = [h for h in cgroups.hierarchies() if h.version == 2]
assert (tree.own, tree.controllers) == (own, {controller}), tree
groups = cgroups.Groups(cgroups.Caps(1 << 28, 8), 1)
((folder, version, controllers),) = groups._folders
child = os.fork()
if child == 0:
    signal.pause()  # until it is killed
name = groups.enter(child)
inside = (folder / name / "cgroup.procs").read_text().split() == [str(child)]
print(folder.parent == mount, version, controllers == {controller}, inside)
os.kill(child, 9)
os.waitpid(child, 0)
groups.close()
print(folder.exists())
"""


def test_version_2_on_this_kernel():
    """Where the process's own group holds processes, the folder is its sibling. With any controller there is: which of
    them a machine has in version 2 does not matter to the rules of the tree."""
    mounts = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if "cgroup2 " in line]
    mount = next((m for m in mounts if os.access(m / "cgroup.subtree_control", os.W_OK)), None)
    controllers = (mount / "cgroup.controllers").read_text().split() if mount else []
    if mount is None or not controllers:
        pytest.skip("no writable tree of version 2 with a controller here")
    before = (mount / "cgroup.subtree_control").read_text().split()
    (mount / "torl-test").mkdir()
    try:
        (mount / "cgroup.subtree_control").write_text(f"+{controllers[0]}")
        words = [sys.executable, "-c", VERSION_2, str(mount), controllers[0]]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.stdout == "True 2 True True\nFalse\n", done.stderr
    finally:
        (mount / "torl-test").rmdir()
        if controllers[0] not in before:
            (mount / "cgroup.subtree_control").write_text(f"-{controllers[0]}")


def test_a_group_waits_for_its_processes_to_end():
    groups = Groups(CAPS, slots=1)
    with subprocess.Popen(["sleep", "60"]) as process:
        name = groups.enter(process.pid)
        folder = _folders(groups)[0]
        assert (folder / name / "cgroup.procs").read_text().split() == [str(process.pid)]
        groups.leave(name)
        groups._remove_left()
        assert (folder / name).is_dir()
        process.kill()
    groups.close()
    assert not folder.exists()


def test_version_2_for_real(monkeypatch):
    """On whatever controller the version 2 tree of this machine has; hugetlb is one that mixtures leave there."""
    monkeypatch.setattr(cgroups, "WANTED", ("hugetlb", "memory", "pids"))
    monkeypatch.setattr(Caps, "files", lambda *_: {"hugetlb": {}, "memory": {"memory.max": 1 << 28}, "pids": {}})
    found = [hierarchy for hierarchy in hierarchies() if hierarchy.version == 2]
    if not found:
        pytest.skip("no version 2 tree with controllers here")
    control = found[0].own / "cgroup.subtree_control"
    before = set(control.read_text().split())
    groups = Groups(CAPS, 1, found)
    (folder,) = _folders(groups)
    assert set((folder / "cgroup.subtree_control").read_text().split()) == set(groups.controllers)
    with subprocess.Popen(["sleep", "60"]) as process:
        name = groups.enter(process.pid)
        assert (folder / name / "cgroup.procs").read_text().split() == [str(process.pid)]
        groups.leave(name)
        process.kill()
    groups.close()
    assert not folder.exists()
    for controller in set(control.read_text().split()) - before:
        control.write_text(f"-{controller}")
