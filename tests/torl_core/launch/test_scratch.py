"""Temporary files that do not outlive the process that they belong to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

WRITES = """
import os, sys, tempfile
from torl_core.launch import start, use_scratch
folder = use_scratch()
assert use_scratch() == folder
for made in (tempfile.mkstemp()[1], tempfile.mkdtemp()):
    assert made.startswith(f"{folder}/"), made
child = "import tempfile, time\\nwhile True: tempfile.mkdtemp(); time.sleep(0.001)"
writer = start([sys.executable, "-c", child])
while len(os.listdir(folder)) < 10: pass
print(folder, flush=True)
sys.stdin.read()
writer.kill()
writer.wait()
"""


@pytest.fixture
def writing(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that writes temporary files below `tmp_path`, as does one that it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert [folder] == list(tmp_path.iterdir())
    return process


def test_they_are_gone_when_it_has_ended(writing: subprocess.Popen[str], tmp_path: Path) -> None:
    writing.communicate("")
    assert writing.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its process group"])
def test_they_are_gone_soon_after_it_was_killed(
    writing: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    (os.killpg if group else os.kill)(writing.pid, number)
    assert writing.wait() == -number
    deadline = time.monotonic() + 10
    while any(tmp_path.iterdir()):
        assert time.monotonic() < deadline, list(tmp_path.iterdir())
        time.sleep(0.01)
    writing.communicate()


def test_a_temporary_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = (
        "import tempfile; tempfile.tempdir = '" + str(tmp_path / "file") + "'\n"
        "from torl_core.errors import ConfigError\n"
        "from torl_core.launch import use_scratch\n"
        "try: use_scratch()\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "no temporary folder can be made" in done.stdout
    assert "Set TMPDIR" in done.stdout
