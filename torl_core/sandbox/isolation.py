"""What stands between model-written code and this machine, checked one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from torl_core.sandbox import cgroups, gvisor, jail, seccomp


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `torl doctor`. `remedy` is empty when there is nothing to do."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


def check_isolation() -> tuple[Check, ...]:
    """Quick checks, about a tenth of a second; no warm interpreter is started."""
    return (
        _platform(), _bubblewrap(), _user_namespaces(), _nested(), _system_calls(), _identity(), _control_groups()
    )  # fmt: skip


def check_gvisor() -> tuple[Check, ...]:
    """What the gvisor backend stands on; gVisor is started for real, half a second."""
    return (
        _platform(),
        _bubblewrap(),
        *(() if os.geteuid() == 0 else (_user_namespaces(),)),
        _system_calls(),
        _gvisor(),
    )


def _platform() -> Check:
    system = os.uname()
    return Check(
        "kernel", system.sysname == "Linux", f"{system.sysname} {system.release}", "run on Linux 5.14 or later"
    )


def _bubblewrap() -> Check:
    path = shutil.which("bwrap")
    if path is None:
        return Check("bubblewrap", False, "bwrap is not on PATH", "run `apt-get install bubblewrap`")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Check("bubblewrap", True, f"{version} ({path})")


def _sysctl(name: str) -> str | None:
    path = Path("/proc/sys") / name
    return path.read_text().strip() if path.exists() else None


def _user_namespaces() -> Check:
    name = "user namespaces"
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return Check(
            name, False, "kernel.unprivileged_userns_clone is 0", "run `sysctl -w kernel.unprivileged_userns_clone=1`"
        )
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedy = "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or allow bwrap userns in AppArmor"
        return Check(name, False, "AppArmor restricts unprivileged user namespaces", remedy)
    most = _sysctl("user/max_user_namespaces")
    if most == "0":
        return Check(name, False, "user.max_user_namespaces is 0", "run `sysctl -w user.max_user_namespaces=10000`")
    return Check(name, most is not None, f"at most {most}", "use a kernel with CONFIG_USER_NS")


PROBE = ["unshare", "--user", "--pid", "--mount", "--ipc", "--fork", "true"]


def _nested() -> Check:
    """The namespaces of a slot and a snippet, made inside the jail's."""
    name = "namespaces inside the jail"
    remedy = "in a container, allow user namespaces and mounts (Docker: --security-opt seccomp=unconfined)"
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--", *PROBE]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    except OSError as error:
        return Check(name, False, str(error), "run `apt-get install bubblewrap util-linux`")
    detail = "user, pid, mount, ipc" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"
    return Check(name, done.returncode == 0, detail, "" if done.returncode == 0 else remedy)


def _system_calls() -> Check:
    try:
        size = len(seccomp.filter_program()) // 8
    except OSError as error:
        return Check("seccomp filter", False, str(error), "run `apt-get install libseccomp2`")
    return Check("seccomp filter", True, f"{len(seccomp.ALLOWED)} calls allowed, {size} instructions")


def _identity() -> Check:
    uid = os.geteuid()
    inside = "root makes the jail, then drops to" if uid == 0 else f"uid {uid}, shown inside as"
    return Check("identity", True, f"{inside} uid {jail.UNPRIVILEGED_ID}")


def _gvisor() -> Check:
    instead = "or set sandbox.backend to local, which needs no gVisor"
    path = gvisor.program()
    if path is None:
        return Check("gVisor", False, "runsc is not on PATH", f"run `apt-get install runsc`, {instead}")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    try:
        kernel = gvisor.try_start()
    except OSError as error:
        remedy = f"try `runsc --platform=ptrace --network=none do true` for its reason, {instead}"
        return Check("gVisor", False, f"{version} does not start: {error}", remedy)
    return Check("gVisor", True, f"{version} ({path}) starts as {kernel}")


def _control_groups() -> Check:
    """Made and removed for real; without them each process is still limited."""
    groups = cgroups.Groups(cgroups.Caps(memory_bytes=1 << 30, processes=64), slots=1)
    have = groups.controllers
    groups.close()
    missing = [name for name in cgroups.WANTED if name not in have]
    detail = f"{', '.join(have) or 'none'} limit each slot" + (f"; not {', '.join(missing)}" if missing else "")
    remedy = (
        "without them resource limits hold per process, not for all processes of a snippet together: run as root, "
        "or under `systemd-run --user --scope -p Delegate=yes`, or mount /sys/fs/cgroup writable into the container"
    )
    return Check("control groups", not missing, detail, remedy if missing else "", required=False)
