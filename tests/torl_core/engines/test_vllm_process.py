"""vLLM's engine process: nobody waits for a dead one, and none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.torl_core.engines.conftest import CONFIG, Folders, Handle, Run, save_model
from torl_core.engines import open_engine
from torl_core.errors import EngineError
from torl_core.protocols import Generate, Generated, Sampling

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

OPEN_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from torl_core.config import EngineConfig
from torl_core.engines import open_engine

async def main(weights, then):
    engine = await open_engine(EngineConfig(max_model_len=64), Path(weights), 0, "float32", 0)
    print("open", flush=True)
    if then == "close":
        await engine.close()
        print("closed", flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


def engine_processes(parent: int) -> list[psutil.Process]:
    """Children of `parent` but multiprocessing's resource tracker, which ends by itself."""

    def is_engine(process: psutil.Process) -> bool:
        try:
            return not any("resource_tracker" in word for word in process.cmdline())
        except psutil.NoSuchProcess:  # it ended, or is a zombie, between the listing and the question
            return False

    return [child for child in psutil.Process(parent).children(recursive=True) if is_engine(child)]


def test_a_killed_engine_process_fails_every_waiting_call(run: Run, folders: Folders) -> None:
    before, environment = set(engine_processes(os.getpid())), dict(os.environ)
    handle = Handle("vllm", run, run(open_engine(CONFIG, folders.random, 0, "float32", 0)))
    (process,) = set(engine_processes(os.getpid())) - before
    assert dict(os.environ) == environment

    async def kill_under_way() -> tuple[list[Generated | BaseException], float]:
        requests = [Generate((n + 1, 2, 3), 150) for n in range(90)]  # more than are decoded together
        waiting = [asyncio.create_task(handle.engine.generate(r, Sampling(1.0, seed=1))) for r in requests]
        await asyncio.sleep(0.1)
        process.kill()
        killed = time.monotonic()
        return await asyncio.gather(*waiting, return_exceptions=True), time.monotonic() - killed

    answers, waited_s = run(kill_under_way())
    failures = [a for a in answers if not isinstance(a, Generated)]
    assert len(failures) > 20
    assert all(isinstance(f, EngineError) and "process died" in str(f) for f in failures)
    assert waited_s < 10
    with pytest.raises(EngineError, match="process died"):
        handle((1, 2), 3)
    with pytest.raises(EngineError):
        handle.load(folders.other)
    run(handle.engine.close())
    with pytest.raises(EngineError, match="closed"):
        handle((1, 2), 3)


@pytest.mark.parametrize("moment", ["while it starts", "when it runs"])
def test_the_engine_process_ends_with_a_killed_parent(moment: str, folders: Folders) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, str(folders.random), ""],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        if moment == "when it runs":
            assert parent.stdout is not None
            assert parent.stdout.readline() == "open\n"
        while not (orphans := engine_processes(parent.pid)):
            time.sleep(0.05)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    gone, alive = psutil.wait_procs(orphans, timeout=5 if moment == "when it runs" else 90)
    assert (len(gone), alive) == (1, [])


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, since sockets lie in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_close_leaves_no_process_no_file_and_no_noise(folders: Folders, scratch: Path, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(f"import flows.cli\n{OPEN_AND_WAIT}")  # vLLM's process imports it too, as it does `torl`
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folders.random), "close"],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["open\n", "closed\n"]
    left = engine_processes(parent.pid)
    output, narration = parent.communicate("", timeout=60)
    assert (left, parent.returncode) == ([], 0)
    assert list(scratch.iterdir()) == []
    assert (output, narration) == ("", "")


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_refused_by_name(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 70)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(EngineError, match=r"temporary folder .*xxx.*at most 70.*Set TMPDIR") as refused:
        asyncio.run(open_engine(CONFIG, folders.random, 0, "float32", 0))
    assert not refused.value.retryable
    assert list(long.iterdir()) == []


def test_another_model_is_refused_and_the_old_one_stays(
    opened: Callable[[str], Handle], folders: Folders, tmp_path: Path
) -> None:
    handle = opened("vllm")
    handle.load(folders.random)
    tied = save_model(tmp_path / "tied", seed=6, tied=True)
    first = handle((1, 2, 3), 5)
    with pytest.raises(EngineError, match=r"tie_word_embeddings.*lm_head\.weight"):
        handle.load(tied)
    with pytest.raises(EngineError, match="top_p"):
        handle((1, 2, 3), 5, temperature=1.0, top_p=0.9)
    assert handle((1, 2, 3), 5) == first
