"""What vLLM's processes find in their environment, without starting one."""

from pathlib import Path

import pytest
import torch

from torl_core.engines.vllm import _preloaded


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
