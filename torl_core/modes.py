"""Access modes of folders that are made in secret and then shared."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def share(folder: Path) -> None:
    """Give a folder, and all folders and files in it, the modes that this process gives to new ones.

    `tempfile.mkdtemp` and safetensors allow their owner alone, so that a worker of another user could not read them.
    """
    probe = folder / f".mode-{uuid.uuid4().hex}"
    probe.mkdir()  # reading the umask itself means setting it, for every thread
    mode = probe.stat().st_mode & 0o777
    probe.rmdir()
    for path, _, names in os.walk(folder):
        os.chmod(path, mode)
        for file in (Path(path, name) for name in names):
            if not file.is_symlink():  # what it leads to is not of this folder
                file.chmod(mode & 0o666)
