"""The base model as policy 0: a local folder, a folder in a store, or a name on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from infra.storage import Store
from infra.storage.digests import digest_folder
from torl_core.engines.window import window_of
from torl_core.errors import DataError
from torl_core.model_folder import PATTERNS, WITHOUT_WEIGHTS, check_finite, check_model_folder
from torl_core.types import Policy


def base_folder(path: str) -> Path:
    """A local folder with the model. Raises DataError when there is none, or a file of it is missing or not whole."""
    folder = _resolve(path, PATTERNS)
    check_model_folder(folder)
    return folder


def tokenizer_folder(path: str, scratch: Path) -> Path:
    """A local folder with the model's tokenizer and config.json. What is not here already is fetched without the
    weights, from a store into `scratch`. Raises DataError, StoreError."""
    if "://" not in path or (store := Store.open(path)).is_local:
        return _resolve(path, WITHOUT_WEIGHTS)
    for key in store.list(""):
        if any(fnmatch(key, pattern) for pattern in WITHOUT_WEIGHTS):
            (scratch / key).write_bytes(store.read(key))
    return scratch


def base_policy(folder: Path) -> Policy:
    """The model of a local folder as policy 0. Raises DataError when a weight is NaN or infinite.

    Every byte is read twice: the check takes about 0.1 s of CPU per GB, the digest five times as much.
    """
    check_finite(folder)
    return Policy(0, str(folder), digest_folder(folder))


def model_window(folder: Path) -> int | None:
    """The longest context (tokens) of the model; None where its config.json does not say. Raises DataError."""
    path = folder / "config.json"
    try:
        return window_of(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            "config.json of a model is a JSON object with numbers where numbers belong",
            "copy the model's own config.json into the folder again",
        ) from error


def _resolve(path: str, patterns: Sequence[str]) -> Path:
    if "://" in path:
        return Store.open(path).fetch_folder("")
    if Path(path).is_dir():
        return Path(path).resolve()
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise DataError(
            f"model.path is {path!r} and there is no such folder",
            "a model is a local folder, an s3:// folder or a hub name like Qwen/Qwen2.5-Math-1.5B",
            "correct model.path",
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises what its transport raises; here it becomes one error
        raise DataError(
            f"model {path!r} could not be fetched from the hub ({type(error).__name__}: {error})",
            "a hub name is reachable and readable with your credentials",
            "check the name, the network and HF_TOKEN, or download it and point model.path at the folder",
        ) from error
