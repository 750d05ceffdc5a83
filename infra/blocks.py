"""Where Prefect keeps task results: inside the campaign's own store, so that the store alone is enough to resume."""

from __future__ import annotations

from prefect.filesystems import LocalFileSystem, RemoteFileSystem, WritableFileSystem

from infra.storage import Store


def results_in(store: Store) -> WritableFileSystem:
    """Unsaved block over `<store>/prefect-results`; results are references of a few hundred bytes."""
    place = store.uri_of("prefect-results")
    return LocalFileSystem(basepath=place) if store.is_local else RemoteFileSystem(basepath=place)
