"""Folders of remote stores on the local disk, by digest: what was fetched, and what waits to be uploaded."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra.storage.digests import digest_folder, files_of
from infra.storage.local import TEMPORARY
from torl_core.modes import share

LIMIT_GIB = 100
"""Of folders kept; $TORL_CACHE_GIB overrides it."""

IN_USE_S = 3600.0
"""A folder used this recently may still be read by some process, and is never evicted."""


def default_cache() -> Path:
    """Where folders of a remote store are kept locally: $TORL_CACHE, or torl/ in the user's cache folder."""
    given = os.environ.get("TORL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torl"


class FolderCache:
    """Entries are named by digest and read through whenever they are used, so a damaged one is never handed out."""

    def __init__(self, root: Path) -> None:
        self.root = root / "folders"

    def get(self, digest: str) -> Path | None:
        """The folder with that content. A damaged entry is removed."""
        folder = self.root / digest
        if not folder.is_dir():
            return None
        if digest_folder(folder) != digest:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
        return folder

    def holds(self, digest: str) -> bool:
        """Without reading it through."""
        return (self.root / digest).is_dir()

    @contextmanager
    def space(self) -> Iterator[Path]:
        """A fresh folder on the cache's disk, to fill and `add`; removed if it was not added."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, folder: Path, digest: str) -> Path:
        """Move a folder in under its digest, and evict what is over the limit."""
        self.root.mkdir(parents=True, exist_ok=True)
        place = self.root / digest
        if not place.is_dir():
            share(folder)
            shutil.move(folder, place)
        os.utime(place)
        with suppress(FileNotFoundError):  # another process evicts too
            self._evict()
        return place

    def _evict(self) -> None:
        """The longest unused first, until the rest fits. What is in use stays, even over the limit."""
        limit = float(os.environ.get("TORL_CACHE_GIB", LIMIT_GIB)) * 2**30
        entries = sorted((path for path in self.root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        sizes = {path: sum(file.stat().st_size for file in files_of(path).values()) for path in entries}
        total = sum(sizes.values())
        for path in entries:
            if total <= limit or time.time() - path.stat().st_mtime < IN_USE_S:
                return
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
