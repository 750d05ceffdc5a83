"""Runs a command that ends with its parent: `python -I -S tie.py PARENT_PID PROGRAM ARGUMENT...`.

The process that runs this file becomes the program, so its process id is the program's. Nothing of the project is
imported here: the file has to start in milliseconds and in any environment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. It survives `exec`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent ended before the line above
        os._exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
