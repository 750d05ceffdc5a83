"""One store behind one address: a local folder, s3://bucket/prefix, or memory:// (tests), through fsspec.

Objects are immutable. An object is named by its content or by its step, so writing it again writes the same bytes or
replaces what a crashed attempt left behind; nothing that a manifest names is ever changed. What makes objects visible
is a small JSON manifest, written last and exclusively. On a local folder every file is written beside its place,
flushed and renamed; S3 makes an object visible only when its upload is complete. So a reader sees all or nothing.

A campaign has one writer at a time: `infra.storage.lease`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from infra.storage.cache import FolderCache, default_cache
from infra.storage.digests import combine_digests, digest_bytes, digest_folder, files_of
from infra.storage.local import TEMPORARY, temporary_beside, write_through
from infra.storage.remote import (
    abort_upload,
    cause_of,
    code_of,
    download,
    file_system,
    is_s3,
    list_objects,
    may_pass,
    move,
    put_if_absent,
    refuses_second_put,
    remove,
    rule_and_remedy,
    unfinished_uploads,
    upload,
    upload_chunks,
)
from torl_core.errors import ConfigError, DamagedError, StoreError, TorlError, UnreadableError
from torl_core.locations import address_fault
from torl_core.modes import share


def is_outside(location: str) -> bool:
    """Whether a location is an address of its own rather than a key of the store."""
    return "://" in location or location.startswith("/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as the store lists it. `modified` is by the store's own clock."""

    key: str
    bytes: int
    modified: datetime


class Store:
    """Keys are relative paths with forward slashes. Every failure of the store's own is a StoreError."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str, uri: str, cache: Path) -> None:
        self.fs, self.root, self.uri, self.cache = fs, root, uri, cache
        self._conditional: bool | None = None

    @classmethod
    def open(cls, uri: str | Path, cache: Path | None = None) -> Store:
        """Open a folder path or URL. Touches nothing yet: call `check_writable` before anything expensive.

        Raises ConfigError where no store can lie, StoreError where nothing serves the address.
        """
        if fault := address_fault(str(uri)):
            raise ConfigError(*fault)
        try:
            fs, root = file_system(str(uri))
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"store {str(uri)!r} cannot be opened ({error})",
                "A store is a local folder, file://, or s3://bucket/prefix",
                "Correct the address, or install the fsspec package that serves it",
            ) from error
        root = root.rstrip("/")
        return cls(
            fs, root, root if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(root), cache or default_cache()
        )

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def path(self, key: str) -> str:
        """`key` as the file system names it."""
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"{key!r} is not a key: keys are relative and stay inside the store")
        return f"{self.root}/{key}" if key else self.root

    def uri_of(self, key: str) -> str:
        """The address anyone else can use: a path for a local store, else a URL. An absolute address stays as it is."""
        if is_outside(key):
            return key
        return f"{self.uri}/{key}" if key else self.uri

    # --- small objects

    def check_writable(self) -> None:
        """Write, read and delete one probe object. Raises StoreError before anything expensive has started."""
        key = f".probe-{uuid.uuid4().hex}"
        with self._boundary("write to", key):
            self.write(key, b"torl")
            if self.read(key) != b"torl":
                raise OSError("what was read back is not what was written")
            self.delete(key)

    def write(self, key: str, data: bytes) -> None:
        """Put a whole object, replacing what an unfinished attempt may have left there."""
        with self._boundary("write", key):
            path = self.path(key)
            if not self.is_local:
                self.fs.pipe_file(path, data)
                return
            with temporary_beside(Path(path)) as temporary:
                write_through(temporary, [data])
                temporary.replace(path)

    def write_once(self, key: str, data: bytes) -> None:
        """Put an object that must not exist yet. The same bytes again are fine; other bytes raise StoreError."""
        if not self.create(key, data) and self.read(key) != data:
            raise StoreError(
                f"{self.uri_of(key)} exists with other content",
                "What is committed is never changed",
                "Use another campaign name, or end the other run that writes to this one",
            )

    def create(self, key: str, data: bytes) -> bool:
        """Put an object unless one is there; False if one is. Of several writers one wins if `creates_atomically`."""
        with self._boundary("write", key):
            path = self.path(key)
            if self.is_local:
                with temporary_beside(Path(path)) as temporary:
                    write_through(temporary, [data])
                    try:
                        os.link(temporary, path)  # fails if it exists, and never shows half a file
                    except FileExistsError:
                        return False
                return True
            if self.exists(key):
                return False
            if not self._conditional_puts():
                self.fs.pipe_file(path, data)
                return True
            return put_if_absent(self.fs, path, data)

    @property
    def creates_atomically(self) -> bool:
        """Whether `create` is safe against another writer at the same moment."""
        with self._boundary("write to", ""):
            return self.is_local or self._conditional_puts()

    def _conditional_puts(self) -> bool:
        """Asked of the store once: a second conditional put of one object must be refused."""
        if self._conditional is None:
            path = self.path(f".probe-{uuid.uuid4().hex}")
            self._conditional = self.is_s3 and refuses_second_put(self.fs, path)
        return self._conditional

    def modified(self, key: str) -> datetime:
        """When the object was last written, by the store's own clock."""
        with self._boundary("look up", key):
            when: datetime = self.fs.modified(self.path(key))
            return when

    def now(self) -> datetime:
        """The store's own clock, which its `modified` times compare with whatever the clocks of its users say."""
        key = f".probe-{uuid.uuid4().hex}"
        self.write(key, b"now")
        try:
            return self.modified(key)
        finally:
            self.delete(key)

    def read(self, key: str) -> bytes:
        with self._boundary("read", key):
            data: bytes = self.fs.cat_file(self.path(key))
            return data

    def write_json(self, key: str, value: Any, *, once: bool = False) -> None:
        """Indented and with sorted keys, for people. `once` as in `write_once`."""
        (self.write_once if once else self.write)(key, _json_bytes(value))

    def create_json(self, key: str, value: Any) -> bool:
        """As `create`."""
        return self.create(key, _json_bytes(value))

    def read_json(self, key: str) -> Any:
        """Raises UnreadableError where the object is not JSON."""
        try:
            return json.loads(self.read(key))
        except (ValueError, RecursionError) as error:
            raise UnreadableError(
                f"{self.uri_of(key)} is not JSON ({error})",
                "Configs, manifests and leases are JSON and are written whole",
                "Restore the file from a copy of the store",
                key,
            ) from error

    def exists(self, key: str) -> bool:
        with self._boundary("look up", key):
            path = self.path(key)
            if self.is_s3:  # its own `exists` takes a bucket that is gone for an object that never was
                return path in list_objects(self.fs, path, limit=1) or bool(list_objects(self.fs, f"{path}/", limit=1))
            return os.path.exists(path) if self.is_local else bool(self._found(key))

    def list(self, prefix: str) -> list[str]:
        """Keys of every object below the folder `prefix`, sorted. A folder that does not exist is empty."""
        with self._boundary("list", prefix):
            keys = (path[len(self.root) :].lstrip("/") for path in self._found(prefix))
            return sorted(key for key in keys if not _is_temporary(key))

    def entries(self, prefix: str = "", *, temporary: bool = False) -> Sequence[Entry]:
        """As `list`, with sizes and times; `temporary`: only what `list` hides, folders of that kind included."""
        with self._boundary("list", prefix):
            found = self._found(prefix, withdirs=temporary)
            entries = [_entry(path[len(self.root) :].lstrip("/"), info) for path, info in found.items()]
            return sorted((e for e in entries if _is_temporary(e.key) == temporary), key=lambda e: e.key)

    def _found(self, prefix: str, *, withdirs: bool = False) -> dict[str, dict[str, Any]]:
        """{path: what the file system says of it} of every object below the folder `prefix`. S3 has no folders."""
        if self.is_s3:
            return list_objects(self.fs, f"{self.path(prefix)}/")
        try:
            found: dict[str, dict[str, Any]] = self.fs.find(self.path(prefix), withdirs=withdirs, detail=True)
        except FileNotFoundError:
            return {}
        return found

    def chunks(self, key: str, size: int = 8 << 20) -> Iterator[bytes]:
        """An object's bytes in pieces of at most `size`, so that its length does not matter to the memory."""
        with (
            self._boundary("read", key),
            self.fs.open(self.path(key), "rb", block_size=size, cache_type="none") as file,
        ):
            while data := file.read(size):
                yield data

    def put_chunks(self, key: str, chunks: Iterator[bytes], digest: str | None = None) -> str:
        """Put an object in pieces and return its digest. It appears whole, or not at all if `digest` names another.

        Raises StoreError. In memory there is one piece at a time, and on S3 one part.
        """
        hashed = _Hashed(chunks)

        def check() -> None:
            if digest:
                self._verify(key, hashed.digest(), digest)

        with self._boundary("write", key):
            if self.is_local:
                path = Path(self.path(key))
                with temporary_beside(path) as temporary:
                    write_through(temporary, hashed)
                    check()
                    temporary.replace(path)
            else:
                upload_chunks(self.fs, self.path(key), hashed, check)
        return hashed.digest()

    def delete(self, key: str) -> None:
        """Remove an object or a folder with everything in it. What is not there is already deleted."""
        with self._boundary("delete", key):
            path = self.path(key)
            if self.is_local:
                if self.exists(key):
                    self.fs.rm(path, recursive=True)
                return
            there = [path] if key and (self.is_s3 or self.fs.isfile(path)) else []
            remove(self.fs, [*there, *(one for one in self._found(key) if one != path)])

    # --- S3's unfinished multipart uploads, which no listing shows and which are paid for

    @property
    def is_s3(self) -> bool:
        return is_s3(self.fs)

    def unfinished_uploads(self) -> Iterator[tuple[str, str, datetime]]:
        """(key, upload id, when it began) of every upload into this store that was neither completed nor aborted."""
        with self._boundary("list unfinished uploads of", ""):
            for path, upload_id, started in unfinished_uploads(self.fs, f"{self.root}/"):
                yield path.removeprefix(f"{self.root}/"), upload_id, started

    def abort_upload(self, key: str, upload: str) -> None:
        """What is already completed or aborted is fine."""
        with self._boundary("abort the upload of", key):
            abort_upload(self.fs, self.path(key), upload)

    # --- content-addressed objects

    def put_object(self, folder: str, data: bytes, *, prefix: str = "", suffix: str = "") -> tuple[str, str]:
        """Put `data` at `<folder>/<prefix><digest><suffix>` and return (key, digest). Put twice, it is stored once."""
        digest = digest_bytes(data)
        key = f"{folder}/{prefix}{digest[:16]}{suffix}"
        if not self.exists(key):
            self.write(key, data)
        return key, digest

    def get_object(self, key: str, digest: str) -> bytes:
        """Raises DamagedError when it is not there, or its bytes, read twice, are not those that `digest` names."""
        data = self.read(key)
        if digest_bytes(data) != digest and not self.is_local:
            data = self.read(key)
        self._verify(key, digest_bytes(data), digest)
        return data

    # --- folders

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A fresh local folder to prepare a folder in, on the disk of the store or of its cache."""
        parent = Path(self.root) if self.is_local else self.cache
        with self._boundary("make a scratch folder in", ""):
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put_folder(self, local: Path, key: str, *, move: bool = False) -> str:
        """Put a folder at `key` and return its digest. `move`: `local` is given up, and renamed rather than copied.

        A folder already there with the same content is left alone; other content (an attempt that never committed) is
        replaced. Until a manifest names the digest, the folder does not count.
        """
        digest = _digest_to_store(local)
        with self._boundary("write", key):
            if self.is_local:
                self._put_local(local, Path(self.path(key)), digest, move=move)
                return digest
            self._upload_folder(local, key)
        if move:
            shutil.rmtree(local, ignore_errors=True)
        return digest

    def stage_folder(self, local: Path, key: str) -> str:
        """Give up `local` to the store without waiting for a network; returns its digest.

        On a local store it is at `key` then. On a remote one it is in the local cache, where `fetch_folder` finds it,
        until `upload_folder` brings it to `key`.
        """
        if self.is_local:
            return self.put_folder(local, key, move=True)
        digest = _digest_to_store(local)
        with self._boundary("stage", key):
            self._cache.add(local, digest)
        return digest

    def upload_folder(self, key: str, digest: str) -> None:
        """Bring a staged folder to `key`; nothing to do on a local store. Raises DamagedError if it is lost."""
        if self.is_local:
            return
        with self._boundary("write", key):
            folder = self._cache.get(digest)
            if folder is None:
                raise self._damaged(key, f"{self.uri_of(key)} was staged here, but is in the cache no longer")
            self._upload_folder(folder, key)

    def fetch_folder(self, location: str, digest: str | None = None) -> Path:
        """A local folder with the content of `location`, a key or an address of any kind.

        A folder of a local store is returned itself: do not write into it. One of a remote store comes through a cache
        whose entries are named by digest and verified whenever they are used. With `digest` None the folder is fetched
        anew. Raises DamagedError when there is none, or its content is not what `digest` names.
        """
        if is_outside(location):
            return Store.open(location, self.cache).fetch_folder("", digest)
        with self._boundary("read", location):
            if self.is_local:
                path = Path(self.path(location))
                if not path.is_dir():
                    raise FileNotFoundError(f"there is no folder {path}")
                if (path / REMOVED).exists():
                    raise self._removed(location)
                return path
            cached = self._cache.get(digest) if digest else None
            return cached or self._download(location, digest)

    def verify_folder(self, location: str, digest: str) -> Path:
        """As `fetch_folder`, and read through on a local store too."""
        folder = self.fetch_folder(location, digest)
        if self.is_local:
            self._verify(location, digest_folder(folder), digest)
        return folder

    def quarantine(self, key: str) -> str | None:
        """Move a damaged object or folder out of the way, to be looked at; returns where to, or None without one."""
        aside = f"quarantine/{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}/{key}"
        with self._boundary("quarantine", key):
            if not self.exists(key):
                return None
            for source in self.list(key) or [key]:
                target = self.path(f"{aside}{source[len(key) :]}")
                if self.is_local:
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(self.path(source), target)
                else:
                    move(self.fs, self.path(source), target)
            self.delete(key)
            return aside

    def _put_local(self, local: Path, target: Path, digest: str, *, move: bool) -> None:
        if target.is_dir() and digest_folder(target) == digest:
            if move:
                shutil.rmtree(local, ignore_errors=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(target) as temporary:
            if move:
                shutil.move(local, temporary)
            else:
                shutil.copytree(local, temporary)
            share(temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.replace(target)

    def _upload_folder(self, local: Path, key: str) -> None:
        sizes = {f"{key}/{name}": path.stat().st_size for name, path in files_of(local).items()}
        for stale in set(self.list(key)) - sizes.keys():
            self.delete(stale)
        files = {self.path(f"{key}/{name}"): path for name, path in files_of(local).items()}
        if self.is_s3:
            upload(self.fs, files)
        else:
            self.fs.put([str(path) for path in files.values()], list(files))
        for name, size in sizes.items():
            if (found := self.fs.size(self.path(name))) != size:
                raise OSError(f"{name} has {found} bytes in the store after {size} were sent")

    def _download(self, key: str, digest: str | None) -> Path:
        """Fetched twice before it is called damaged: the first copy may have broken on its way."""
        for last in (False, True):
            with self._cache.space() as folder:
                found = self._get_all(key, folder)
                if digest in (None, found):
                    return self._cache.add(folder, found)
                if last:
                    self._verify(key, found, str(digest))
        raise AssertionError("unreachable")

    def _get_all(self, key: str, folder: Path) -> str:
        """Returns the digest of what came."""
        sources = self.list(key)
        if not sources:
            raise FileNotFoundError("there is no such folder")
        if f"{key}/{REMOVED}".lstrip("/") in sources:
            raise self._removed(key)
        files = {self.path(source): folder / (source[len(key) :].lstrip("/")) for source in sources}
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        if self.is_s3:
            found = self._found(key)
            digests = download(self.fs, {path: found[path]["size"] for path in files}, files)
            return combine_digests({files[path].relative_to(folder).as_posix(): digests[path] for path in files})
        self.fs.get(list(files), [str(file) for file in files.values()])
        return digest_folder(folder)

    @property
    def _cache(self) -> FolderCache:
        return FolderCache(self.cache)

    def _removed(self, key: str) -> StoreError:
        note = self.read_json(f"{key}/{REMOVED}".lstrip("/"))
        return StoreError(
            f"{self.uri_of(key)} was removed by retention at {note['at']}",
            f"The campaign keeps checkpoints of {note['kept']}; manifests and trajectories stay",
            "Choose a step whose checkpoint `torl store ls` shows as stored",
        )

    def _verify(self, key: str, found: str, expected: str) -> None:
        if found != expected:
            raise self._damaged(key, f"{self.uri_of(key)} has digest {found[:16]}, recorded was {expected[:16]}")

    def _damaged(self, key: str, what: str) -> DamagedError:
        return DamagedError(
            what,
            "What is stored never changes, so this copy is damaged, lost or was overwritten",
            "Restore it from a copy, or resume from an earlier step",
            key,
        )

    @contextmanager
    def _boundary(self, operation: str, key: str) -> Iterator[None]:
        """Third-party file systems raise what they like; here it becomes one error that names object and operation."""
        try:
            yield
        except TorlError:
            raise
        except Exception as error:
            cause = cause_of(error, self.fs, self.root)
            if operation == "read" and isinstance(cause, FileNotFoundError) and code_of(cause) != "NoSuchBucket":
                raise self._damaged(key, f"cannot read {self.uri_of(key)}: it is not there") from error
            what = f"cannot {operation} {self.uri_of(key)} ({type(cause).__name__}: {cause})"
            raise StoreError(what, *rule_and_remedy(cause), retryable=may_pass(cause)) from error


REMOVED = "removed.json"
"""Stands in the place of a folder that retention removed: {at, kept}."""


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _digest_to_store(folder: Path) -> str:
    if not files_of(folder):
        raise StoreError(f"{folder} has no files", "A stored folder has at least one", "Check what was to write it")
    return digest_folder(folder)


def _is_temporary(key: str) -> bool:
    return any(part.startswith((TEMPORARY, ".probe-")) for part in key.split("/"))


def _entry(key: str, info: dict[str, Any]) -> Entry:
    when = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(when, int | float):
        when = datetime.fromtimestamp(when, UTC)
    size = 0 if info.get("type") == "directory" else int(info.get("size") or 0)
    return Entry(key, size, when or datetime.min.replace(tzinfo=UTC))  # S3's folders have no time


class _Hashed:
    """Passes pieces on and knows the digest of what went by."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._hash = chunks, hashlib.sha256()

    def __iter__(self) -> _Hashed:
        return self

    def __next__(self) -> bytes:
        data = next(self._chunks)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()
