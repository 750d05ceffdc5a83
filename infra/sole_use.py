"""One command at a time in a folder of this machine."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from torl_core.errors import ConfigError, StoreError


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made where it does not exist, while the block runs.

    The kernel lets it go when this process ends, however it ends. Raises StoreError, saying who, while another process
    holds it, and ConfigError where it cannot be written.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ConfigError(
            f"the folder {folder} cannot be written ({error.strerror})",
            "Everything that the command makes goes into this folder",
            "Give another folder with --out, or change the permissions",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"the folder {folder} is in use by {file.read() or 'another process'}",
                "One command at a time works in a folder",
                "Wait for its end, or give another folder with --out",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        file.flush()
        yield
