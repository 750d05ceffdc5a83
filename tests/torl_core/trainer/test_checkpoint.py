import json

import pytest
import torch
from safetensors.torch import save_file

from torl_core.errors import DataError
from torl_core.trainer.checkpoint import weights_distance


def folder(path, *shards):
    path.mkdir()
    for i, tensors in enumerate(shards):
        save_file(tensors, path / f"model-{i}.safetensors")
    files = {name: f"model-{i}.safetensors" for i, tensors in enumerate(shards) for name in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    # Weights that are in no index are not the model's.
    save_file({"a": torch.full((2, 2), 9.0)}, path / "consolidated.safetensors")
    return path


def test_distance_between_weights_however_they_are_sharded(tmp_path):
    zero, far = torch.zeros(2, 2, dtype=torch.bfloat16), torch.tensor([[3.0, 0], [0, 0]], dtype=torch.bfloat16)
    one = folder(tmp_path / "one", {"a": zero, "b": torch.zeros(3)})
    other = folder(tmp_path / "other", {"b": torch.tensor([0.0, 4, 0])}, {"a": far})
    assert weights_distance(one, other) == weights_distance(other, one) == 5.0
    assert weights_distance(other, other) == 0.0


def test_weights_of_another_model_have_no_distance(tmp_path):
    one, other = folder(tmp_path / "one", {"a": torch.zeros(1)}), folder(tmp_path / "other", {"c": torch.zeros(1)})
    with pytest.raises(DataError, match="a is in one of"):
        weights_distance(one, other)
