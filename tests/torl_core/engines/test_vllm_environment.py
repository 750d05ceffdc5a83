"""What vLLM's processes find in their environment, without starting one."""

import sys
from pathlib import Path

import pytest
import torch

from tests.namespaces import run_mounted
from torl_core.config import EngineConfig
from torl_core.engines.vllm import _cpu_arguments, _preloaded
from torl_core.errors import EngineError

ROOT = Path(__file__).resolve().parents[3]


def test_openmp_is_preloaded_from_a_path_with_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "a b/torch/__init__.py"))
    assert _preloaded(tmp_path) == {}, "this torch brings none"
    library = tmp_path / "a b/torch/lib/libgomp.so.1"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setenv("LD_PRELOAD", "/lib/other.so")
    assert _preloaded(tmp_path) == {"LD_PRELOAD": f"{tmp_path}/libgomp.so.1 /lib/other.so"}
    assert (tmp_path / "libgomp.so.1").resolve() == library


def test_without_shared_memory_the_cause_is_named() -> None:
    """In a mount namespace of its own, where /dev/shm cannot be written."""
    code = "from torl_core.engines.vllm import _require_shared_memory; _require_shared_memory()"
    done = run_mounted("mount -t tmpfs -o ro none /dev/shm", [sys.executable, "-c", code], ROOT)
    assert "no shared memory can be made (Read-only file system)" in done.stderr
    assert "--shm-size" in done.stderr


def test_a_cache_that_the_machine_cannot_hold_is_not_tried() -> None:
    with pytest.raises(EngineError, match=r"cpu_kv_cache_gib is 1000000 and this machine has \d+ GiB") as refused:
        _cpu_arguments(EngineConfig(cpu_kv_cache_gib=1_000_000), 64)
    assert not refused.value.retryable
