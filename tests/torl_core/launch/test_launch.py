"""Processes that end with the one that starts them, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from torl_core.launch import start, tied

ROOT = Path(__file__).resolve().parents[3]

STARTS_ONE = """
import sys, threading, time
from torl_core.launch import start
children = []
def ask():
    children.append(start(["sleep", "600"]))
    time.sleep(2)  # the child has tied itself to its parent by then
thread = threading.Thread(target=ask)
thread.start()
thread.join()
print(children[0].pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent_and_not_with_the_thread_that_asked_for_it(how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert child.name() == "sleep"
    assert child.status() != psutil.STATUS_ZOMBIE, "it outlives the thread that asked for it"
    parent.send_signal(how)
    parent.wait()
    alive = psutil.wait_procs([child], timeout=5)[1]
    for orphan in alive:
        orphan.kill()
    parent.communicate()
    assert alive == []


def test_a_child_whose_parent_is_gone_already_does_not_run(tmp_path: Path) -> None:
    words = tied(["touch", str(tmp_path / "ran")])
    words[4] = str(os.getpid() + 1)  # as if another had started it and died
    assert subprocess.run(words, check=False).returncode == 1
    assert not (tmp_path / "ran").exists()


def test_a_child_keeps_its_arguments_descriptors_environment_and_exit_code() -> None:
    reading, writing = os.pipe()
    code = f"import os, sys; os.write({writing}, repr((sys.argv[1:], os.environ['A'])).encode()); sys.exit(7)"
    child = start([sys.executable, "-c", code, "two words", ""], env={"A": "b"}, pass_fds=[writing])
    os.close(writing)
    assert child.wait(timeout=60) == 7
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "(['two words', ''], 'b')"


def test_what_cannot_be_started_is_the_callers_error() -> None:
    with pytest.raises(NotADirectoryError):
        start(["true"], cwd="/etc/hostname")
    assert start(["true"]).wait(timeout=60) == 0, "the next one starts"
