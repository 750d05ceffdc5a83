"""Where the warm interpreter's memory lies. A fork copies, and an exit undoes, every mapping and every page table entry
of it: most of what a snippet costs. Few mappings and huge pages make both cheap.

Everything here is best effort: where kernel or C library do not play along, forks only cost more.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from torl_core.sandbox.inside import kernel

HUGE_PAGE = 1 << 21
MIB = 1 << 20
ARENAS = 32
"""Python takes memory for small objects in arenas of a MiB. This many hold the warm interpreter's."""
BLOCK = 512
"""Bytes, with the 33 of an empty `bytes` included: the largest that comes from an arena."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_HEAP_BLOCK = 32 * MIB
"""The most that the C library's threshold grows to by itself, too."""


Heap = list[tuple[int, int]]
"""Start and length in bytes of the stretches that can be huge pages."""
_held: list[bytes] = []


@dataclass(frozen=True, slots=True)
class _Region:
    start: int
    end: int
    access: str
    path: str


def reserve() -> None:
    """Before anything is imported: one stretch of memory for all small objects to come, instead of an arena here and
    there between the libraries, and all larger ones in the C library's heap."""
    libc = ctypes.PyDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_HEAP_BLOCK)
    per_arena = MIB // BLOCK
    blocks = [bytes(BLOCK - 33) for _ in range(ARENAS * per_arena)]
    _held.extend(blocks[:: per_arena // 2])  # one is enough for an arena to be kept


def merge_mappings() -> None:
    """A library has five mappings, that could be two: what is read and what is run; what was written and what may be.
    Nothing is lost by that in a process whose business it is to run strangers' code."""
    regions = [region for region in _regions() if ".so" in region.path]
    for region, after in zip(regions, [*regions[1:], None], strict=True):
        if region.access == "r--p":
            relocated = after is not None and (after.path, after.start, after.access) == (
                region.path, region.end, "rw-p",
            )  # fmt: skip
            kernel.protect(region.start, region.end, kernel.READ | (kernel.WRITE if relocated else kernel.EXECUTE))


def heap() -> Heap:
    found = []
    for region in _regions():
        if region.access == "rw-p" and region.path in ("", "[heap]"):
            start, end = -(-region.start // HUGE_PAGE) * HUGE_PAGE, region.end // HUGE_PAGE * HUGE_PAGE
            if start < end:
                found.append((start, end - start))
    return found


def use_huge_pages(regions: Heap) -> None:
    """Whatever of `regions` is no huge page becomes one, private to this process."""
    for start, length in regions:
        kernel.collapse(start, length)


def _regions() -> list[_Region]:
    regions = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, access, _, _, _, *path = line.split(maxsplit=5)
            start, end = (int(address, 16) for address in addresses.split("-"))
            regions.append(_Region(start, end, access, path[0].strip() if path else ""))
    return regions
