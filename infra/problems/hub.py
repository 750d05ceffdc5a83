"""Rows of Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.problems.reading import arrow_rows, damaged
from infra.problems.rows import Row
from torl_core.errors import DataError

_BATCH = 4096


def hub_rows(name: str, split: str) -> Iterator[Row]:
    """`NAME` or `NAME:CONFIG` on the hub, a local folder of data files, or one written by `save_to_disk`."""
    rows, first = _dataset(name, split).with_format("arrow"), 1
    try:
        for table in rows.iter(_BATCH):
            yield from arrow_rows(table, f"hf:{name}", first)
            first += len(table)
    except Exception as error:  # of a damaged file Arrow raises many kinds
        raise damaged(f"hf:{name}, rows from {first} on cannot be read ({error})") from error


def _dataset(name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"hf:{name} needs the `datasets` package",
            "Reading the hub is an extra",
            "Install it with: pip install 'torl[hub]'",
        ) from error
    path, _, config = name.partition(":")
    saved = any((Path(path) / mark).exists() for mark in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            rows = datasets.load_from_disk(path)
            return rows[split] if isinstance(rows, datasets.DatasetDict) else rows
        return datasets.load_dataset(path, config or None, split=split)
    except Exception as error:  # the library, the network and the hub raise many kinds
        raise DataError(
            f"hf:{name} with split {split!r} cannot be loaded ({type(error).__name__}: {error})",
            "The dataset must be on the hub, in the local cache, or a local folder",
            "Check the name, the split and the network; a private dataset needs HF_TOKEN",
        ) from error
