"""The store on a real S3, Ceph's gateway on this machine: throughput, memory, share of a step, recovery.

    python tests/benchmarks/s3.py [--mib 512] [--gib 4] [--steps 8]

Everything is in the memory of this machine, and gateway, OSD and client share its cores: ratios count. Needs Ceph's
packages (`make setup` as root) and 3 times `--gib` of memory and disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import fsspec

from infra.analytics import query
from infra.s3 import BUCKET, ceph
from infra.storage import CampaignStore, Store
from infra.storage.digests import digest_folder
from infra.yaml_reader import read_yaml
from torl_core.toy.base import build_base

TORL = Path(sys.executable).parent / "torl"
ROUNDS = 3

_PEAK = """
import re, sys
from pathlib import Path
from infra.storage import Store
def peak():  # not getrusage's, which begins with what the parent had when it forked
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
uri, folder, cache = sys.argv[1:]
store = Store.open(uri, cache=Path(cache))
before = peak()
digest = store.put_folder(Path(folder), "big")
put = peak()
store.fetch_folder("big", digest)
print(before, put, peak())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=512, help="folder of the throughput table; 0: none")
    parser.add_argument("--gib", type=float, default=4, help="folder of the memory table; 0: none")
    parser.add_argument("--steps", type=int, default=8, help="of the campaign; 0: none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ceph() as environment:
        os.environ.update(environment)
        if given.mib:
            throughput(Path(scratch), given.mib)
        if given.gib:
            memory(Path(scratch), given.gib)
        if given.steps:
            campaign(Path(scratch), given.steps)


def fill(folder: Path, size: int, files: int = 2) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    block = os.urandom(1 << 20)
    for i in range(files):
        with (folder / f"part-{i}.bin").open("wb") as file:
            for k in range(size // files >> 20):
                file.write(k.to_bytes(8, "big") + block[8:])
    return folder


# --- throughput


def throughput(scratch: Path, mib: int) -> None:
    """Ours takes digests; s3fs alone has its own defaults. They take turns."""
    source = fill(scratch / "source", mib << 20)
    fs = fsspec.filesystem("s3")
    store = Store.open(f"{BUCKET}/{uuid.uuid4().hex}", cache=scratch / "cache")
    seconds: dict[str, list[float]] = {name: [] for name in ("put", "s3fs put", "get", "s3fs get")}
    names = [path.name for path in source.iterdir()]
    digest = digest_folder(source)
    for k in range(ROUNDS):
        remotes = [store.path(f"alone-{k}/{name}") for name in names]
        here, there = ([str(scratch / folder / name) for name in names] for folder in ("source", "alone"))
        (scratch / "alone").mkdir(exist_ok=True)
        shutil.rmtree(scratch / "cache", ignore_errors=True)
        seconds["put"].append(timed(partial(store.put_folder, source, f"ours-{k}")))
        seconds["s3fs put"].append(timed(partial(fs.put, here, remotes)))
        seconds["get"].append(timed(partial(store.fetch_folder, f"ours-{k}", digest)))
        seconds["s3fs get"].append(timed(partial(fs.get, remotes, there)))
        store.delete(f"ours-{k}")
        store.delete(f"alone-{k}")
    rows = []
    for way in ("put", "get"):
        ours, theirs = seconds[way], seconds[f"s3fs {way}"]
        ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
        rows.append([way, f"{mib / median(ours):.0f}", f"{mib / median(theirs):.0f}", f"{ratio:.2f}"])
    rows.append(["the digests alone", f"{mib / timed(partial(digest_folder, source)):.0f}", "", ""])
    table([f"{mib} MiB in two files, MiB/s", "torl, digests included", "s3fs alone", "ratio"], rows)


def table(head: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- memory


def memory(scratch: Path, gib: float) -> None:
    source = fill(scratch / "source", int(gib * 2**30))
    uri, cache = f"{BUCKET}/{uuid.uuid4().hex}", scratch / "big cache"
    command = [sys.executable, "-c", _PEAK, uri, str(source), str(cache)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, put, got = (int(value) / 1024 for value in done.stdout.split())
    table(["process", "start (MiB)", "after put", "after get"], [
        [f"peak memory, folder of {gib:g} GiB", f"{before:.0f}", f"{put:.0f}", f"{got:.0f}"],
    ])  # fmt: skip
    Store.open(uri).delete("big")
    for folder in (source, cache):
        shutil.rmtree(folder)


# --- campaign


def campaign(scratch: Path, steps: int) -> None:
    """The demo's campaign on Ceph and on a folder, then killed after a step and started again."""
    build_base(scratch / "base", seed=0, steps=300)
    shares = {}
    for name, place in {"folder": str(scratch / "store"), "Ceph": f"{BUCKET}/{uuid.uuid4().hex}"}.items():
        config = write_config(scratch, place, steps)
        subprocess.run([TORL, "campaign", config], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shares[name] = phases(place)
        if name == "Ceph":
            recovery = killed(write_config(scratch, place, steps + 3), place, steps + 1)
    table(
        ["store", "a step (s)", "waited for the checkpoint (s)", "share", "upload, behind the next step (s)"],
        [
            [
                name,
                f"{row['step']:.2f}",
                f"{row['wait']:.3f}",
                f"{row['wait'] / row['step']:.1%}",
                f"{row['upload']:.3f}",
            ]
            for name, row in shares.items()
        ],
    )
    print(f"\nKilled behind a commit on Ceph, the same command commits the next step after {recovery:.0f} s.")


def write_config(scratch: Path, store: str, steps: int) -> Path:
    demo = Path(__file__).parents[2] / "configs" / "demo.yaml"
    values = read_yaml(demo.read_text(), str(demo)).value
    values |= {"name": "bench", "store": store, "steps": steps}
    values["model"] = {**values["model"], "path": str(scratch / "base")}
    values["evaluation"] = {}
    path = scratch / "campaign.yaml"
    path.write_text(json.dumps(values))
    return path


def phases(store: str) -> dict[str, float]:
    sql = (
        "SELECT avg(step_time_s) AS step, avg(phases_s['checkpoint']) AS wait, avg(metrics['upload_s']) AS upload "
        "FROM steps WHERE step > 1"
    )
    (row,) = query(Store.open(store), sql).to_pylist()
    return dict(row)


def killed(config: Path, store: str, step: int) -> float:
    """Seconds from the second start to the commit of the step after `step`."""
    place = CampaignStore(Store.open(store), "bench")
    command = [TORL, "campaign", config]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: place.manifest(step) is not None, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    started = time.perf_counter()
    again = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: place.manifest(step + 1) is not None, again)
    took = time.perf_counter() - started
    again.wait()
    return took


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not ready():
        if process.poll() is not None:
            raise SystemExit(f"the campaign ended early, with {process.returncode}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
