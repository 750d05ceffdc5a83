"""What is kept of a long output: its head and its tail, with a note between them that says how much is missing."""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""So many bytes from an offset on, as os.pread without its file."""


def shortened(read: Read, size: int, most: int) -> str:
    """The text of `size` bytes, in at most `most` bytes with the note included.

    Bytes that are not UTF-8 become replacement characters. No character is cut into two.
    """
    if size <= most:
        return read(size, 0).decode(errors="replace")
    half = max(0, most - len(_note(size))) // 2
    head, tail = _without_cut_end(read(half, 0)), _without_cut_start(read(half, size - half))
    note = _note(size - len(head) - len(tail))
    return head.decode(errors="replace") + note + tail.decode(errors="replace")


def shortened_text(text: str, most: int) -> str:
    data = text.encode(errors="replace")
    return shortened(lambda count, offset: data[offset : offset + count], len(data), most)


def whole_characters(read: Read, size: int) -> int:
    """`size`, less the first bytes of a UTF-8 character whose others lie behind it."""
    last = read(min(4, size), max(0, size - 4))
    return size - len(last) + len(_without_cut_end(last))


def _note(left_out_bytes: int) -> str:
    return f"\n[... {left_out_bytes} bytes left out ...]\n"


def _without_cut_end(data: bytes) -> bytes:
    """Without the first bytes of a UTF-8 character whose others were cut off."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
        if byte < 0x80:
            return data
    return data


def _without_cut_start(data: bytes) -> bytes:
    """Without the last bytes of a UTF-8 character whose first were cut off; there are three of them at most."""
    inside = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
    return data[inside:]
