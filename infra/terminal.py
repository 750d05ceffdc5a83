"""What a model, a file name or a stored text says, made harmless for a terminal."""

from __future__ import annotations


def harmless(text: str) -> str:
    r"""`text` with escapes such as `\x1b` in place of characters that drive a terminal or cannot be written to one.

    These are control characters other than newline and tab, marks that change the direction of a line, other line ends
    than newline, and lone surrogates. Use it where a person reads; CSV and JSON for programs stay exact.
    """
    return text.translate(_ESCAPES)


_DANGEROUS = (
    *(range(0x09), range(0x0B, 0x20), range(0x7F, 0xA0)),
    *(range(0x61C, 0x61D), range(0x200E, 0x2010), range(0x2028, 0x202F), range(0x2066, 0x206A)),
    range(0xD800, 0xE000),
)
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for codes in _DANGEROUS for code in codes}
