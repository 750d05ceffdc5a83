"""A Hugging Face folder as an engine loads it: which tensors it holds, and the same with untied output embeddings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors.torch import save_file

from torl_core.errors import DataError, EngineError
from torl_core.model_folder import (
    CONFIG,
    EMBEDDING,
    HEAD,
    StoredTensor,
    beside_weights,
    read_tensor,
    stored_tensors,
    weight_files,
)

_IRRELEVANT = {"transformers_version", "dtype", "torch_dtype", "_name_or_path", "use_cache"}
"""Configuration that does not change what the same weights compute."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What must not change from one policy to the next. `tensors` is by name."""

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def read(cls, path: Path) -> Self:
        """From config.json and the tensors' headers. Raises DataError."""
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(path, local_files_only=True).to_dict()
            tensors = stored_tensors(path)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"the model folder {str(path)!r} cannot be read ({error})",
                "a policy is a Hugging Face folder with config.json and *.safetensors",
                "check the path, or copy the folder again",
            ) from error
        return cls(path, config, tensors)

    @property
    def tied(self) -> bool:
        return bool(self.config.get("tie_word_embeddings"))

    @property
    def vocabulary(self) -> int:
        return int(self.config["vocab_size"])

    @property
    def architecture(self) -> Mapping[str, Any]:
        """The configuration without what leaves the computation as it is."""
        return {key: value for key, value in self.config.items() if key not in _IRRELEVANT}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By tensor name. A tied model may be stored with its output embeddings and without; here it has none."""
        return {name: tensor.shape for name, tensor in self.tensors.items() if not (self.tied and name == HEAD)}

    def require_same_model(self, other: ModelFolder) -> None:
        """Raises EngineError unless `other` differs in the tensors' values alone."""
        ours, theirs = self.architecture, other.architecture
        differing = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        tensors = sorted(
            n for n in self.shapes.keys() | other.shapes.keys() if self.shapes.get(n) != other.shapes.get(n)
        )
        if differing or tensors:
            raise EngineError(
                f"{str(other.path)!r} is not the model the engine runs: it differs in {', '.join(differing + tensors)}",
                "a running engine takes new values for the same tensors only",
                "give it a checkpoint of the same base model, or open a new engine",
            )


@contextmanager
def untied_copy(folder: ModelFolder) -> Iterator[Path]:
    """`folder` itself; where output embeddings are tied, a temporary twin that has them as a tensor of their own.

    The twin links to everything else. It computes the same. Raises EngineError for a layout it does not know.
    """
    if not folder.tied:
        yield folder.path
        return
    if EMBEDDING not in folder.tensors:
        raise EngineError(
            f"the tied model {str(folder.path)!r} has no tensor {EMBEDDING}",
            "vLLM leaves the output head of a tied model stale, so it is loaded as a tensor of its own",
            "save the model with untied embeddings (tie_word_embeddings false and lm_head.weight)",
            retryable=False,
        )
    with tempfile.TemporaryDirectory(prefix="torl-untied-") as name:
        twin = Path(name)
        for file in (*weight_files(folder.tensors.values()), *beside_weights(folder.path)):
            (twin / file.name).symlink_to(file.resolve())
        config = json.loads((folder.path / CONFIG).read_text()) | {"tie_word_embeddings": False}
        (twin / CONFIG).write_text(json.dumps(config))
        save_file({HEAD: _head(folder)}, twin / "untied_head.safetensors")
        yield twin


def _head(folder: ModelFolder) -> Any:
    """The output embeddings of a tied model. Raises EngineError where the folder holds others under their own name."""
    embedding = read_tensor(EMBEDDING, folder.tensors[EMBEDDING])
    stored = folder.tensors.get(HEAD)
    if stored and not read_tensor(HEAD, stored).equal(embedding):
        raise EngineError(
            f"config.json in {str(folder.path)!r} says tie_word_embeddings, and {HEAD} differs from {EMBEDDING}",
            "The output embeddings of a tied model are its input embeddings",
            "Set tie_word_embeddings to false in config.json",
            retryable=False,
        )
    return embedding
