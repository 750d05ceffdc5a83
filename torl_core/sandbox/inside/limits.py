"""What a snippet may use, and the two messages between the pool and a slot."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Literal

Jail = Literal["bubblewrap", "gvisor", "none"]

JOB = struct.Struct("<dQ")
"""timeout_s, code_bytes. With it travel three descriptors: code, stdout and stderr, the latter two sealed to a size."""
FILES = struct.Struct("3i")
ROOM_FOR_FILES = socket.CMSG_SPACE(FILES.size)

OUTCOME = struct.Struct("<BiddQQQ")
"""ending, wait status, wall_s, cpu_s, peak_memory_bytes, bytes of stdout and of stderr (where their offsets stand)."""

ENDED, TIMED_OUT, CANCELLED, NOT_STARTED = range(4)
"""Endings. NOT_STARTED: the jail could not be completed, so the snippet never ran; that is the sandbox's failure."""

CANCEL = b"cancel"
NEW_SLOT = b"slot"


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory_bytes` is what a snippet may map beyond what the warm interpreter already had mapped."""

    jail: Jail
    memory_bytes: int
    max_processes: int
    tmp_bytes: int
    max_report_bytes: int
    seccomp: str
    """The filter program in hex; empty for none."""
    packages: tuple[str, ...] = ()
    """Distributions that snippets may import beside those that are always there."""
    importable: tuple[str, ...] = ()
    """What all of them are called in an `import` statement."""

    @property
    def jailed(self) -> bool:
        return self.jail != "none"
