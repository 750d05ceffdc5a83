"""Imported libraries' warnings stay out of a run's narration, in vLLM's process too; errors do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# `torl` is such a main module: a spawned process imports it first.
MAIN = """
import multiprocessing
import sys
from flows.cli import main

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=exec, args=(sys.argv[1],))
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
TORCH = "from torch.utils.cpp_extension import _find_cuda_home as f, logger as l; assert f() == '/usr'; l.error('seen')"
VLLM = "from vllm.triton_utils.importing import logger as l; l.error('seen')"


def said(tmp_path: Path, code: str, **variables: str) -> str:
    """What a spawned process that runs `code` prints to stderr."""
    script = tmp_path / "torl"
    script.write_text(MAIN)
    run = subprocess.run(
        [sys.executable, str(script), code], env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    return run.stderr


def test_a_cuda_toolkit_without_a_gpu_is_no_news(tmp_path: Path) -> None:
    (line,) = said(tmp_path, TORCH, CUDA_HOME="/usr", CUDA_VISIBLE_DEVICES="").splitlines()
    assert line.endswith("seen")


@pytest.mark.slow
def test_vllm_imports_in_silence_unless_it_is_asked(tmp_path: Path) -> None:
    assert said(tmp_path, VLLM, VLLM_LOGGING_LEVEL="ERROR") == "seen\n"
    assert "seen" in (asked := said(tmp_path, VLLM, VLLM_LOGGING_LEVEL="info"))
    assert "Triton" in asked
