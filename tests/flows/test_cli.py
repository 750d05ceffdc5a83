"""The `torl` command where it cannot do what it is asked: one error each, at once."""

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.sole_use import sole_use
from infra.storage import Store
from torl_core.errors import ConfigError, StoreError


def torl(*arguments: object) -> str:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False).stdout


def test_version() -> None:
    assert torl("--version") == f"torl {version('torl')}\n"


def test_a_second_demo_in_one_folder_hears_at_once_who_holds_it(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        started = time.monotonic()
        with pytest.raises(
            StoreError, match=rf"the folder {tmp_path} is in use by process {os.getpid()} on .* since 2"
        ):
            torl("demo", "--out", tmp_path)
        assert time.monotonic() - started < 2
    assert [path.name for path in tmp_path.iterdir()] == ["lock"], "it made nothing"


def test_a_folder_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from infra.sole_use import sole_use\n"
        f"with sole_use(pathlib.Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} "), sole_use(tmp_path):
            pass
        holder.kill()
    with sole_use(tmp_path):
        pass


@pytest.fixture(params=["below a file", "a file system that refuses"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Also for root."""
    if request.param == "below a file":
        (tmp_path / "file").touch()
        return tmp_path / "file" / "runs"
    return Path("/proc/runs")


def test_a_demo_that_cannot_write(unwritable: Path) -> None:
    with pytest.raises(ConfigError, match=rf"the folder {unwritable} cannot be written \((Not a dir|No such file)"):
        torl("demo", "--out", unwritable)


def test_a_report_that_cannot_be_written(unwritable: Path, tmp_path: Path) -> None:
    """It is refused before the store is read, whose one campaign is damaged."""
    Store.open(tmp_path / "store").write("campaigns/c/config.json", b"torn")
    for out in (unwritable / "report.html", tmp_path):
        with pytest.raises(ConfigError, match=rf"the report cannot be written to {out} \([NI]"):
            torl("report", tmp_path / "store", "--out", out)


def test_s3_without_ceph_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.s3"]
    run = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(
        "error: no local S3 (ceph-mon, ceph-osd, radosgw, ceph not installed: as root, apt-get install"
    )


@pytest.mark.parametrize(
    "option",
    [("--workers", 1025), ("--slots-per-worker", 257), ("--memory-mib", (1 << 20) + 1), ("--package", "")],
    ids=lambda option: option[0],
)
def test_a_service_with_an_impossible_option_is_refused_by_name(option: tuple[str, object]) -> None:
    result = CliRunner().invoke(app, ["sandbox", "serve", *map(str, option)])
    assert result.exit_code == 2
    assert f"Invalid value for '{option[0]}'" in result.stderr
