"""A real S3 on this machine: one monitor, one in-memory OSD and one gateway of Ceph, on loopback, for trying and tests.

`python -m infra.s3` (or `make s3`) starts it in the foreground and prints the variables to export; it and everything in
it are gone when it ends. Packages: ceph-mon ceph-osd radosgw ceph-common, and root.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from torl_core.errors import StoreError
from torl_core.launch import start

PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
BUCKET = "s3://torl"
_KEYS = ("torl", "torl-secret")
_START_S = 120
_OWN_CONFIG = "--no-mon-config"
"""A client that fetches its configuration from the monitor forgets the fsid that it has read in the file. A command
that it sends before it has heard it again is refused ("wrong fsid"); a disk ends over that. `ceph` always does."""

_CONFIG = """[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8589934592
run dir = {home}
log file = {home}/$name.log
pid file = {home}/$name.pid
admin socket = {home}/$name.asok
[mon.a]
mon data = {home}/mon
[osd.0]
osd data = {home}/osd
[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
"""


def why_not() -> str | None:
    """Why Ceph cannot be started here, in one line; None where it can."""
    missing = [name for name in ("ceph-mon", "ceph-osd", "radosgw", "ceph") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: as root, apt-get install --no-install-recommends {PACKAGES}"
    return None


@contextmanager
def ceph() -> Iterator[dict[str, str]]:
    """Start it; yields the AWS_ variables that lead there, with bucket `torl` made. Raises StoreError if it fails."""
    if reason := why_not():
        raise StoreError(f"no local S3 ({reason})", "The local S3 is Ceph's gateway", "Install its packages")
    with ExitStack() as stack:
        try:
            environment = _start(stack)
        except OSError as error:
            raise StoreError(f"no local S3 ({error})", "Ceph needs a temporary folder", "Set TMPDIR") from error
        yield environment


def _start(stack: ExitStack) -> dict[str, str]:
    home = Path(tempfile.mkdtemp(prefix="torl-ceph-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    mon, rgw = _free_ports(2)
    fsid, config = str(uuid.uuid4()), home / "ceph.conf"
    for folder in ("mon", "osd", "rgw"):
        (home / folder).mkdir()
    config.write_text(_CONFIG.format(fsid=fsid, home=home, mon=mon, rgw=rgw))
    _start_monitor(stack, config, fsid, f"v1:127.0.0.1:{mon}")
    osd = str(uuid.uuid4())
    _register_disk(config, osd)
    _run(config, "ceph-osd", _OWN_CONFIG, "-i", "0", "--mkfs", "--osd-uuid", osd)
    disk = stack.enter_context(_daemon(config, "ceph-osd", "-i", "0"))
    gateway = stack.enter_context(_daemon(config, "radosgw", "-n", "client.rgw"))
    environment = _environment(f"http://127.0.0.1:{rgw}")
    _wait(environment["AWS_ENDPOINT_URL"], [disk, gateway], home)
    access, secret = _KEYS
    user = ("user", "create", "--uid=torl", "--display-name=torl", f"--access-key={access}", f"--secret={secret}")
    _run(config, "radosgw-admin", _OWN_CONFIG, *user)
    make_bucket(environment)
    return environment


def make_bucket(environment: Mapping[str, str], bucket: str = BUCKET) -> None:
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        region_name=environment["AWS_DEFAULT_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=bucket.removeprefix("s3://"))


def _environment(endpoint: str) -> dict[str, str]:
    access, secret = _KEYS
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "default",
    }


def _start_monitor(stack: ExitStack, config: Path, fsid: str, address: str) -> None:
    monmap = str(config.parent / "monmap")
    _run(config, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[{address}]", monmap)
    _run(config, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
    stack.enter_context(_daemon(config, "ceph-mon", "-i", "a"))


@retry(
    retry=retry_if_exception_message(match=r"(?s).*EPERM"),
    stop=stop_after_delay(_START_S),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _register_disk(config: Path, osd: str) -> None:
    """Idempotent. It may be refused, see `_OWN_CONFIG`."""
    _run(config, "ceph", "osd", "new", osd, "0")


def _run(config: Path, program: str, *arguments: str) -> None:
    command = [program, "-c", str(config), *arguments]
    try:
        subprocess.run(command, capture_output=True, timeout=_START_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip()[-500:]
        raise StoreError(f"{error} ({said})", "Ceph must start", "Free memory or ports, and start it again") from error


@contextmanager
def _daemon(config: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [program, "-f", _OWN_CONFIG, "-c", str(config), *arguments]
    with (config.parent / f"{program}.out").open("wb") as log:
        process = start(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()  # all of it is in memory: nothing to flush
        process.wait()


def _wait(url: str, daemons: Sequence[subprocess.Popen[bytes]], home: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and all(daemon.poll() is None for daemon in daemons):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it speaks HTTP
        except OSError:
            time.sleep(0.1)
    log = "".join(path.read_text(errors="replace")[-500:] for path in home.glob("*.out"))
    raise StoreError(f"Ceph's gateway did not answer at {url} ({log})", "It starts in seconds", "Free memory or ports")


def _free_ports(count: int) -> list[int]:
    """Below the range from which the kernel takes the ports of connections: none is lost between here and its use."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(12_000, 32_000), 100):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise StoreError("no free ports below 32000", "Ceph's monitor and gateway need one each", "End what holds them")


def main() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with ceph() as environment:
            for name, value in environment.items():
                print(f"export {name}={value}")
            print(
                f"# then: torl campaign CONFIG --set store={BUCKET}/first   (Ctrl-C here drops it all)",
                flush=True,
            )
            signal.pause()
    except KeyboardInterrupt:
        pass
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
