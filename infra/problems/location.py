"""The files of a location: one file, the shards in a folder, or what a pattern matches, on any file system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec

from infra.problems.reading import COMPRESSIONS, READERS, kind_of
from torl_core.errors import DataError
from torl_core.locations import local_path

_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class File:
    """`name` is the address for messages."""

    name: str
    system: Any
    path: str

    def read(self) -> bytes:
        try:
            with self.system.open(self.path, "rb") as file:
                data: bytes = file.read()
                return data
        except Exception as error:  # file systems raise what they like
            raise _unreadable(self.name, error) from error


def files(location: str) -> list[File]:
    """In the order of their names; at least one, and all of one kind. Raises DataError."""
    try:
        found = _found(location)
    except DataError:
        raise
    except Exception as error:  # file systems raise what they like
        raise _unreadable(location, error) from error
    for file in found:
        if kind_of(file.name) is None:
            raise DataError(f"problem source {file.name!r} is of no known kind", *_KINDS)
    kinds = sorted({str(kind_of(file.name)) for file in found})
    if len(kinds) > 1:
        raise DataError(
            f"{location} has files of several kinds ({', '.join(kinds)})",
            "The files of one source are of one kind, since the same rows often lie side by side in two kinds",
            f"Name those that are meant, such as {location.rstrip('/').partition('*')[0].rstrip('/')}/*{kinds[0]}",
        )
    return found


def _found(location: str) -> list[File]:
    local = local_path(location)
    system, path = (fsspec.filesystem("file"), local) if local is not None else fsspec.core.url_to_fs(location)
    if _PATTERN & set(path) and not system.exists(path):
        return _matching(location, system, path)
    if not location.startswith("http") and system.isdir(path):
        return _shards(location, system, path)
    return [File(location, system, path)]


def _matching(location: str, system: Any, pattern: str) -> list[File]:
    paths = sorted(path for path in system.glob(pattern) if not system.isdir(path))
    if not paths:
        raise DataError(
            f"problem source {location!r} matches no file",
            "In a pattern, * stands for any part of a name and ** for folders in between",
            "Correct the pattern, or the folder that it begins with",
        )
    return [File(_shown(system, path), system, path) for path in paths]


def _shards(location: str, system: Any, folder: str) -> list[File]:
    """The files right in `folder`; what writers leave beside them (_SUCCESS, .crc, a README) does not count."""
    paths = [entry["name"] for entry in system.ls(folder, detail=True) if entry["type"] == "file"]
    names = {PurePosixPath(path).name: path for path in sorted(paths)}
    if names.keys() & {"state.json", "dataset_dict.json"}:
        raise DataError(
            f"problem source {location!r} is a folder that a dataset's save_to_disk wrote",
            "Such a folder is read by the datasets library",
            f"Use hf:{location.rstrip('/')}",
        )
    shards = [path for name, path in names.items() if kind_of(name) and not name.startswith((".", "_"))]
    if not shards:
        raise DataError(
            f"problem source {location!r} is a folder without a file of problems",
            f"A folder of problems holds files that end in {_listed(READERS)}, right in it",
            f"Name another folder, or a pattern such as {location.rstrip('/')}/**/*.parquet for files further down",
        )
    return [File(_shown(system, path), system, path) for path in shards]


def _shown(system: Any, path: str) -> str:
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    return path if protocol == "file" else str(system.unstrip_protocol(path))


def _listed(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


_KINDS = (
    f"A source is a file that ends in {_listed(READERS)}, which may be compressed ({', '.join(COMPRESSIONS)}), a "
    "folder or a pattern of such files, hf:NAME, or toy:SPLIT",
    "Convert the file, or correct the location",
)


def _unreadable(location: str, error: Exception) -> DataError:
    return DataError(
        f"problem source {location!r} cannot be read ({type(error).__name__}: {error})",
        "A source is a file that is there and may be read, or a folder of such files",
        "Correct the location or its permissions",
    )
