"""A model's folder on disk: which files belong to it, and whether they are whole.

A model is a Hugging Face folder: config.json, weights as safetensors (one file, or several with an index), a tokenizer.
Only what returns tensors imports torch, so that a folder is checked in milliseconds.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torl_core.errors import DataError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
_SINGLE = "model.safetensors"

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
"""Two tensors that are one in a model with tied embeddings. Its folder holds the first, and may hold the second too."""

_VOCABULARY = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "vocab.*")
"""Patterns of files that hold a vocabulary. A tokenizer has at least one of them."""

_BESIDE_WEIGHTS = (
    *(*_VOCABULARY, "tokenizer*.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    *(GENERATION_CONFIG, "chat_template.jinja", "chat_template.json", "LICENSE*", "NOTICE*"),
)
"""Patterns of what a policy takes over from its base model, besides weights and configuration.

What belongs to the training of the base (optimizer.pt, training_args.bin) and its weights in other formats are left
out, and so is Python code, which is never run.
"""

WITHOUT_WEIGHTS = (CONFIG, *_BESIDE_WEIGHTS)
"""Patterns of what is enough to measure prompts."""

PATTERNS = (INDEX, "model*.safetensors", *WITHOUT_WEIGHTS)
"""Patterns of all files that can belong to a model."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_HEADER_LIMIT = 100_000_000
"""The longest header that safetensors reads, in bytes."""

# By dtype: the unsigned integer of its width, and its exponent's bits, which are all set in infinity and NaN alone.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F80_0000),
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
}
_CHUNK_BYTES = 1 << 20
"""What is scanned at a time: it stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a safetensors file holds a tensor. `start` and `stop` count bytes from the file's beginning."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def check_model_folder(folder: Path) -> None:
    """Raises DataError unless config, weights and tokenizer are there and whole.

    Only JSON files and the headers of the weights are read, so that a model of any size takes milliseconds. Which
    tensors an architecture needs beyond its layers is known to transformers only: `load_model` checks that.
    """
    try:
        config = _read_object(folder / CONFIG)
        _check_beside_weights(folder)
        _check_layers(folder, config, stored_tensors(folder))
    except OSError as error:
        raise DataError(
            f"model folder {folder} cannot be read ({error})",
            "Every file of a model is readable for the user who runs this",
            "Check the path and its permissions",
        ) from error


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model by name, from the headers of its weight files: those of the index, or model.safetensors.

    Raises DataError when a file or a tensor is missing, a file is not whole, or a reader could choose other files.
    """
    indexed = _weight_map(folder / INDEX) if (folder / INDEX).is_file() else {}
    files = set(indexed.values()) or {_SINGLE}
    _check_weight_files(folder, files)
    tensors = {name: tensor for file in sorted(files) for name, tensor in _read_header(folder / file).items()}
    if missing := sorted(indexed.keys() - tensors.keys()):
        raise DataError(
            f"{folder / indexed[missing[0]]} has no tensor {missing[0]}",
            f"{INDEX} says that it is there",
            "Copy the whole model again",
        )
    return tensors


def weight_files(tensors: Iterable[StoredTensor]) -> list[Path]:
    return sorted({tensor.file for tensor in tensors})


def check_finite(folder: Path) -> None:
    """Raises DataError when a weight is NaN or infinite. Reads every byte, at the speed of the disk or of memory."""
    tensors = stored_tensors(folder)
    with ThreadPoolExecutor() as pool:  # reading and numpy run beside Python
        for name, finite in zip(tensors, pool.map(_is_finite, tensors.values()), strict=True):
            if not finite:
                pool.shutdown(cancel_futures=True)
                raise DataError(
                    f"tensor {name} in {tensors[name].file} has a value that is NaN or infinite",
                    "Every weight of a model is a finite number",
                    "Use an intact copy of the model, or a checkpoint from before its training diverged",
                )


def read_tensor(name: str, stored: StoredTensor) -> Any:
    """A torch tensor with the stored values."""
    from safetensors import safe_open

    with safe_open(str(stored.file), framework="pt") as file:
        return file.get_tensor(name).contiguous()


def beside_weights(folder: Path) -> list[Path]:
    """The model's files besides weights and configuration, sorted."""
    return sorted({path for pattern in _BESIDE_WEIGHTS for path in folder.glob(pattern) if path.is_file()})


def copy_beside_weights(source: Path, target: Path) -> None:
    for file in beside_weights(source):
        shutil.copyfile(file, target / file.name)


def load_model(folder: Path, dtype: str, **options: Any) -> Any:
    """The causal language model of a folder, on the CPU. `options` are those of transformers' from_pretrained.

    Raises DataError where transformers cannot load it, or would give a missing tensor random values and go on.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            generation_config=GenerationConfig(),  # not the folder's: some can be read and not be written again
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report has them, by name
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(
            f"the model in {folder} did not load ({type(error).__name__}: {error})",
            "transformers loads a policy from config.json and *.safetensors",
            "check that the architecture is one of transformers' own, or copy the folder again",
        ) from error
    if absent := sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}):
        raise DataError(
            f"the weights in {folder} have no tensor {absent[0]} of the shape that config.json asks for"
            + (f", nor {len(absent) - 1} others" if len(absent) > 1 else ""),
            "The weights hold every tensor of the architecture",
            "Copy config.json and all weight files of one model again",
        )
    return model


def _check_beside_weights(folder: Path) -> None:
    for file in beside_weights(folder):
        _refuse_pointer(file)
        if file.suffix == ".json":
            _read_object(file)
    if not any(path.is_file() for pattern in _VOCABULARY for path in folder.glob(pattern)):
        raise DataError(
            f"model folder {folder} has no tokenizer ({', '.join(_VOCABULARY)})",
            "A model's folder holds its tokenizer",
            "Copy the tokenizer's files of the base model into it",
        )


def _check_layers(folder: Path, config: Mapping[str, Any], tensors: Iterable[str]) -> None:
    if "quantization_config" in config:
        raise DataError(
            f"{folder / CONFIG} has a quantization_config",
            "Training needs weights as floating-point numbers",
            "Use the model that was quantised, or save a dequantised one",
        )
    found = {int(match[1]) for name in tensors if (match := re.search(r"(?:^|\.)layers\.(\d+)\.", name))}
    layers = config.get("num_hidden_layers")
    if found and isinstance(layers, int) and (missing := sorted(set(range(layers)) - found)):
        raise DataError(
            f"model folder {folder} has no weights of layer {missing[0]}",
            f"{CONFIG} counts {layers} layers (num_hidden_layers), and the weights hold all of them",
            "Copy the model again, with every file of its weights",
        )


def _check_weight_files(folder: Path, files: set[str]) -> None:
    """Raises DataError unless the folder has `files`, and no other weights that a reader might take for them."""
    present = {path.name for path in folder.glob("*.safetensors")}
    if files == {_SINGLE} and not files <= present:
        others = sorted({*present, *(path.name for end in ("bin", "pth", "gguf") for path in folder.glob(f"*.{end}"))})
        raise DataError(
            f"model folder {folder} has no weights ({_SINGLE}, or {INDEX} and the files that it names)"
            + (f"; it has {', '.join(others)}" if others else ""),
            "Weights are read from safetensors only",
            "Copy the whole model, or load it in transformers and write it with save_pretrained",
        )
    if missing := sorted(files - present):
        raise DataError(
            f"model folder {folder} has no {missing[0]}",
            f"{INDEX} names it",
            "Copy the model again, with every file that its index names",
        )
    # Without an index, engines read every *.safetensors; with one, transformers prefers model.safetensors to it.
    if unclear := sorted(present - files if files == {_SINGLE} else present & {_SINGLE}):
        raise DataError(
            f"model folder {folder} has {', '.join(unclear)} beside {', '.join(sorted(files))}",
            "A folder holds the weights of one model once; engines and transformers would choose differently",
            "Move the files that do not belong to the model elsewhere",
        )


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name. Raises DataError when the file is not whole."""
    _refuse_pointer(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= min(size - 8, _HEADER_LIMIT) else b""
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        tensors = {name: _tensor(file, entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} ({size} bytes) does not begin with the header of a safetensors file",
            "The header holds the names and places of the file's tensors",
            "Copy the file again: it was cut, or is another kind of file",
        ) from error
    whole = max((tensor.stop for tensor in tensors.values()), default=8 + length)
    if size != whole:
        raise DataError(
            f"{file} has {size} bytes instead of {whole}",
            "The header of a safetensors file says how long the file is",
            "Copy the file again: it was cut or overwritten",
        )
    return tensors


def _tensor(file: Path, entry: Mapping[str, Any], data: int) -> StoredTensor:
    start, stop = (data + offset for offset in entry["data_offsets"])
    tensor = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), start, stop)
    if known := _EXPONENTS.get(tensor.dtype):
        expected = math.prod(tensor.shape) * known[0]().nbytes
        if stop - start != expected:
            raise ValueError(f"{stop - start} bytes for shape {tensor.shape}")
    return tensor


def _is_finite(tensor: StoredTensor) -> bool:
    """Other numbers than floats are finite."""
    if tensor.dtype not in _EXPONENTS:
        return True
    kind, exponent = _EXPONENTS[tensor.dtype]
    mask = kind(exponent)
    return all(((np.frombuffer(data, kind) & mask) != mask).all() for data in _chunks(tensor))


def _chunks(tensor: StoredTensor) -> Iterator[bytes]:
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.stop - tensor.start
        while left > 0 and (data := stream.read(min(left, _CHUNK_BYTES))):
            left -= len(data)
            yield data


def _weight_map(index: Path) -> Mapping[str, str]:
    """{tensor: file}."""
    files = _read_object(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise DataError(
            f"{index} has no weight_map of tensors to files",
            "The index of a model in several files says which file holds which tensor",
            "Copy the model's own index again",
        )
    return files


def _read_object(file: Path) -> dict[str, Any]:
    try:
        _refuse_pointer(file)
        value = json.loads(file.read_text())
        if not isinstance(value, dict):
            raise TypeError(f"it holds a {type(value).__name__}")
    except FileNotFoundError as error:
        raise DataError(
            f"model folder {file.parent} has no {file.name}",
            "A model is a Hugging Face folder with config.json, weights as safetensors and a tokenizer",
            "Point model.path at a complete folder",
        ) from error
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{file} cannot be read ({error})", "The file holds one JSON object", "Copy the model's own file again"
        ) from error
    return value


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise DataError(
            f"{file} is a pointer of git-lfs, not the file itself",
            "A clone without git-lfs has pointers in the place of large files",
            "Run `git lfs install` and `git lfs pull` in that folder",
        )
