"""Content digests: SHA-256 in hexadecimal, of bytes, of a file, of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def digest_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Every regular file below `folder` by its relative path with forward slashes, sorted."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(files.items()))


def combine_digests(files: Mapping[str, str]) -> str:
    """Digest of a folder from {relative path: file digest}: SHA-256 over the lines `<digest>  <path>`, sorted by path.

    It is what `sha256sum` prints for the sorted files, hashed once more, so anyone can compute it with a shell.
    """
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return digest_bytes(lines.encode())


def digest_folder(folder: Path) -> str:
    """Changes whenever a file's content or relative path does; modification times and empty folders do not count."""
    files = files_of(folder)
    with ThreadPoolExecutor() as pool:  # a large model is in several files, and hashing runs beside Python
        return combine_digests(dict(zip(files, pool.map(digest_file, files.values()), strict=True)))
