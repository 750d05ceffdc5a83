"""How commands say that a part of the store is damaged: the answer is of everything else, and the exit code is 1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from infra.terminal import harmless

if TYPE_CHECKING:
    from infra.storage.damage import Damage


@contextmanager
def naming_damage() -> Iterator[Callable[[Damage], None]]:
    """Yields what names each damaged file on stderr. The command ends with 1 after its answer if there was one."""
    found: set[Damage] = set()

    def name(damage: Damage) -> None:
        if damage not in found:
            print(harmless(f"damaged: {damage}"), file=sys.stderr, flush=True)
        found.add(damage)

    yield name
    if found:
        raise typer.Exit(1)
