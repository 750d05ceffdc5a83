"""What the readers hand on: rows with the place where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class RowError(Exception):
    """Why a row is rejected."""


class Written(str):
    """A number of a text file as it was written: an answer `27.10` must not become `27.1`."""


@dataclass(frozen=True, slots=True)
class Row:
    """`line` counts from 1: the line of a text file, blank lines included, or the row of anything else. `value` is a
    mapping of columns; a RowError stands for what could not be read as one, and our own generator gives problems."""

    file: str
    line: int
    value: Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not a problem. `source` is what the config calls its source, or the file's own name."""

    source: str
    file: str
    line: int
    """As in `Row`."""
    reason: str
    row: str
    """The row's own text, shortened."""
