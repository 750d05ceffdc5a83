"""Files that appear on a local disk whole or not at all: written beside their place, flushed, and renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".torl-tmp-"
"""What the names of unfinished files and folders begin with."""


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name on the same file system as `path`, removed afterwards if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_through(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file, and return once the disk has it."""
    with path.open("wb") as file:
        for data in chunks:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
