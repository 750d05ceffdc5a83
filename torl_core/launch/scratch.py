"""A folder for the temporary files of this process, which does not outlive it."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import tempfile
from pathlib import Path

from torl_core.errors import ConfigError

# Its stdin ends when this process does, also by SIGKILL. For a moment after that, processes that this one started may
# still write into the folder.
_KEEPER = """
trap "" TERM HUP INT
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$0" && exit
  sleep 1
done
"""


@functools.cache
def use_scratch() -> Path:
    """Have this process, and those that it starts, put their temporary files into a new folder from now on.

    The folder is removed when this process ends, however it ends. Raises ConfigError where none can be made.
    """
    try:
        folder = tempfile.mkdtemp(prefix="torl-")
    except OSError as error:
        raise ConfigError(
            f"no temporary folder can be made ({error})",
            "Sockets and intermediate files need one",
            "Set TMPDIR to a folder that can be written",
        ) from error
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, folder], cwd="/", start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    atexit.register(keeper.communicate)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    return Path(folder)
