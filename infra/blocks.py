"""Where Prefect keeps task results: inside the campaign's own store, so that the store alone is enough to resume."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from prefect.filesystems import RemoteFileSystem

from infra.storage import Store
from infra.storage.garbage import RESULTS
from infra.storage.remote import options


def results_in(store: Store) -> Path | RemoteFileSystem:
    """`<store>/prefect-results`; results are references of a few hundred bytes."""
    place = store.uri_of(RESULTS)
    return Path(place) if store.is_local else _saved_block(place)


@cache
def _saved_block(place: str) -> RemoteFileSystem:
    """Prefect wants the block of a remote place on its server; the credentials stay in this machine's environment."""
    block = RemoteFileSystem(basepath=place, settings=options(place))
    block.save(f"torl-{hashlib.sha256(place.encode()).hexdigest()[:12]}", overwrite=True)
    return block
