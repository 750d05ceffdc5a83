"""Which folders are models, on tiny ones whose files are written here byte by byte."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from torl_core.errors import DataError
from torl_core.model_folder import check_finite, check_model_folder, copy_beside_weights, stored_tensors

Damage = Callable[[Path], object]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5135\n"
LAYERS = {f"model.layers.{i}.mlp.weight": [1.0, -2.0, 0.5] for i in range(2)}
EMBEDDINGS = {"model.embed_tokens.weight": [0.25]}


def write_weights(file: Path, tensors: Mapping[str, list[float]], dtype: str = "F32") -> Path:
    """A safetensors file: the header's length, the header, then the numbers."""
    data, entries = b"", {}
    for name, numbers in tensors.items():
        packed = struct.pack(f"<{len(numbers)}{'f' if dtype == 'F32' else 'e'}", *numbers)
        entries[name] = {"dtype": dtype, "shape": [len(numbers)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two layers in one file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2", "num_hidden_layers": 2}')
    (model / "tokenizer.json").write_text('{"version": "1.0"}')
    write_weights(model / "model.safetensors", {**EMBEDDINGS, **LAYERS})
    return model


@pytest.fixture
def sharded(folder: Path) -> Path:
    """The same in two files."""
    (folder / "model.safetensors").unlink()
    write_weights(folder / "model-1.safetensors", EMBEDDINGS)
    write_weights(folder / "model-2.safetensors", LAYERS)
    files = {**dict.fromkeys(EMBEDDINGS, "model-1.safetensors"), **dict.fromkeys(LAYERS, "model-2.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        check_model_folder(folder)
    assert not caught.value.retryable
    return str(caught.value)


def test_a_whole_model_passes_and_its_tensors_are_known(folder: Path) -> None:
    check_model_folder(folder)
    tensors = stored_tensors(folder)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "model.embed_tokens.weight": (1,),
        "model.layers.0.mlp.weight": (3,),
        "model.layers.1.mlp.weight": (3,),
    }
    last = tensors["model.layers.1.mlp.weight"]
    assert (folder / "model.safetensors").read_bytes()[last.start : last.stop] == struct.pack("<3f", 1.0, -2.0, 0.5)


def test_only_the_files_of_the_index_are_the_models_weights(sharded: Path) -> None:
    write_weights(sharded / "consolidated.safetensors", {"tok_embeddings.weight": [9.0]})
    check_model_folder(sharded)
    assert sorted({tensor.file.name for tensor in stored_tensors(sharded).values()}) == [
        "model-1.safetensors", "model-2.safetensors"]  # fmt: skip


def cut(file: str, size: int) -> Damage:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:size])


def replace(file: str, text: str) -> Damage:
    return lambda folder: (folder / file).write_text(text)


def remove(file: str) -> Damage:
    return lambda folder: (folder / file).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (replace("model.safetensors", POINTER), "model.safetensors is a pointer of git-lfs"),
        (replace("tokenizer.json", POINTER), "tokenizer.json is a pointer of git-lfs"),
        (cut("model.safetensors", -1), "bytes instead of"),
        (cut("model.safetensors", 40), "does not begin with the header"),
        (cut("model.safetensors", 3), "(3 bytes) does not begin with the header"),
        (replace("model.safetensors", ""), "(0 bytes) does not begin with the header"),
        (replace("model.safetensors", "<!doctype html><html></html>"), "does not begin with the header"),
        (remove("model.safetensors"), "has no weights (model.safetensors, or model.safetensors.index.json and"),
        (remove("config.json"), "has no config.json"),
        (replace("config.json", "[]"), "config.json cannot be read (it holds a list)"),
        (replace("config.json", "{"), "config.json cannot be read (Expecting"),
        (replace("generation_config.json", "{,"), "generation_config.json cannot be read (Expecting"),
        (remove("tokenizer.json"), "has no tokenizer (tokenizer.json, "),
        (
            lambda folder: write_weights(folder / "model.safetensors", dict(list(LAYERS.items())[1:])),
            "has no weights of layer 0",
        ),
        (
            replace("config.json", '{"num_hidden_layers": 2, "quantization_config": {"bits": 4}}'),
            "has a quantization_config",
        ),
        (
            lambda folder: write_weights(folder / "adapter_model.safetensors", {"lora": [1.0]}),
            "has adapter_model.safetensors beside model.safetensors",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_by_name(folder: Path, damage: Damage, said: str) -> None:
    damage(folder)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove("model-2.safetensors"), "has no model-2.safetensors. Model.safetensors.index.json names it"),
        (replace("model-2.safetensors", POINTER), "model-2.safetensors is a pointer of git-lfs"),
        (
            lambda folder: write_weights(folder / "model-1.safetensors", {"another": [1.0]}),
            "model-1.safetensors has no tensor model.embed_tokens.weight",
        ),
        (replace("model.safetensors.index.json", '{"weight_map": {}}'), "has no weight_map"),
        (replace("model.safetensors.index.json", "{"), "model.safetensors.index.json cannot be read"),
        (
            lambda folder: write_weights(folder / "model.safetensors", LAYERS),
            "has model.safetensors beside model-1.safetensors, model-2.safetensors",
        ),
    ],
)
def test_a_model_in_several_files_is_what_its_index_says(sharded: Path, damage: Damage, said: str) -> None:
    damage(sharded)
    assert said in refusal(sharded)


def test_weights_that_would_have_to_be_unpickled_are_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refusal(folder)
    assert "it has pytorch_model.bin. Weights are read from safetensors only" in said
    assert "write it with save_pretrained" in said


@pytest.mark.parametrize("dtype", ["F32", "F16"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_named(folder: Path, number: float, dtype: str) -> None:
    # 65504 is the largest number of 16 bits; the odd one is behind the first megabyte.
    largest = [65504.0, -65504.0, 0.0, 6e-8] * 150_000
    weights = folder / "model.safetensors"
    write_weights(weights, {**EMBEDDINGS, "model.layers.0.w": largest}, dtype)
    check_finite(folder)
    write_weights(weights, {**EMBEDDINGS, "model.layers.0.w": [*largest, number]}, dtype)
    with pytest.raises(DataError, match=r"tensor model.layers.0.w in .*model.safetensors has a value that is NaN"):
        check_finite(folder)


def test_a_policy_takes_over_what_belongs_to_a_model_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    ours = ["generation_config.json", "merges.txt", "chat_template.jinja", "tokenizer_config.json", "qwen.tiktoken"]
    others = [
        *("optimizer.pt", "training_args.bin", "pytorch_model.bin", "consolidated.00.pth", "rng_state.pth"),
        *("model.gguf", "trainer_state.json", "modeling_qwen.py", "README.md", "adapter_model.safetensors"),
    ]
    for name in (*ours, *others):
        (folder / name).write_text("{}")
    (folder / "global_step100").mkdir()
    target = tmp_path / "policy"
    target.mkdir()
    copy_beside_weights(folder, target)
    assert sorted(file.name for file in target.iterdir()) == sorted([*ours, "tokenizer.json"])
