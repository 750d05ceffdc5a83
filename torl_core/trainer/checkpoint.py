"""Checkpoints on disk: a Hugging Face folder, and beside it the optimizer state.

The optimizer folder does not depend on backend, ZeRO stage or number of ranks: `state.json` (format, updates so far)
and one safetensors file per kind of state with whole float32 tensors by parameter name: `exp_avg`, `exp_avg_sq`, and
`masters` where the weights themselves are stored in less than float32. Nothing random takes part in training, so there
is no RNG state.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torl_core.errors import DataError, LearnerError
from torl_core.model_folder import HEAD, read_tensor, stored_tensors

FORMAT = 1
MOMENTS = ("exp_avg", "exp_avg_sq")
MASTERS = "masters"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A sibling to write into; it takes `folder`'s place once complete. Raises LearnerError when the disk refuses."""
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    try:
        for left_over in (partial, old):
            shutil.rmtree(left_over, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise LearnerError(
            f"{folder} could not be written: {error}",
            "A checkpoint is written whole",
            "Free space or choose a folder",
            retryable=False,
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises LearnerError for a value that is NaN or infinite: every later step would start from it."""
    for name, tensor in tensors.items():
        low, high = (float(bound) for bound in torch.aminmax(tensor.detach())) if tensor.numel() else (0.0, 0.0)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise LearnerError(
                f"{name} of the new checkpoint has a value that is NaN or infinite",
                "A checkpoint with such a value is not stored",
                "Lower trainer.learning_rate, and start again from the last checkpoint",
                retryable=False,  # the same batch and state give the same bits
            )


def write_state(folder: Path, kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises LearnerError for a value that is not finite."""
    require_finite(tensors)
    save_file({name: t.float().contiguous() for name, t in tensors.items()}, folder / f"{kind}.safetensors")


def write_updates(folder: Path, updates: int) -> None:
    (folder / "state.json").write_text(json.dumps({"format": FORMAT, "updates": updates}) + "\n")


def read_updates(folder: Path) -> int:
    """Updates applied so far. Raises DataError for a folder that is not a whole optimizer state."""
    try:
        state = json.loads((folder / "state.json").read_text())
        updates, known = int(state["updates"]), state["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, f"state.json: {error!r}") from error
    if not known:
        raise _unusable(folder, f"format {state['format']}, known is {FORMAT}")
    return updates


def read_state(folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Each parameter's tensor of one kind, one at a time. Raises DataError when they are not those of the model."""
    try:
        with safe_open(os.fspath(folder / f"{kind}.safetensors"), framework="pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if stored != dict(shapes):
                odd = next(iter(stored.items() ^ shapes.items()))
                raise _unusable(folder, f"{kind} of {odd[0]} {list(odd[1])} does not match the model")
            for name in shapes:
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise _unusable(folder, f"{kind}: {error}") from error


def weights_distance(one: Path, other: Path) -> float:
    """L2 distance between the weights of two model folders. Raises DataError unless they have the same tensors."""
    first, second = stored_tensors(one), stored_tensors(other)
    if odd := sorted((first.keys() ^ second.keys()) - {HEAD}):  # a tied model may be stored without it
        raise DataError(f"{odd[0]} is in one of {one} and {other}", "Both are of one model", "Compare other folders")
    pairs = ((read_tensor(name, folder[name]).double() for folder in (first, second)) for name in first.keys() & second)
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs))


def _unusable(folder: Path, what: str) -> DataError:
    return DataError(
        f"{folder} is no optimizer state of this model ({what})",
        "An optimizer folder is one that save() wrote beside the weights",
        "Give the optimizer folder of the same checkpoint, or none to start afresh",
    )
