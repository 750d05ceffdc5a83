"""What is particular to S3: how patient its client is, how much it holds in memory, and what its errors mean."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec

from torl_core.locations import local_path

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""Of silence on a connection, after which the request is made again."""

ATTEMPTS = 4
"""Per request, with exponential backoff and jitter (botocore's standard mode): connections, 5xx and throttling."""

CALL_ATTEMPTS = 3
"""Of a whole call around those, for answers that break off."""

PART_BYTES = 16 << 20
PARTS_AT_ONCE = 8
"""Of all files under way together: 128 MiB in memory, whatever their size."""

DELETED_AT_ONCE = 1000
"""S3's own limit of one request."""

HASHES_AT_ONCE = 4
HASHED_BYTES = 1 << 20


def file_system(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """(file system, root) of an address, the path of a local one taken literally."""
    if (path := local_path(uri)) is not None:
        return fsspec.filesystem("file", **options(uri)), path
    fs, root = fsspec.core.url_to_fs(uri, **options(uri))
    if is_s3(fs):
        fs.retries = CALL_ATTEMPTS
        fs.config_kwargs = fs.config_kwargs | {"connector_args": {"socket_factory": _impatient_socket}}
        _expect_no_leave()
    return fs, root


def options(uri: str) -> dict[str, Any]:
    """Of the file system that serves `uri`, as JSON: Prefect's server keeps them beside the address of its results.

    Listings are never cached: another process may be writing. Parts have one size, as Cloudflare's R2 wants them. The
    SHA-256 of a body is in its signature, which every server checks; botocore's own way over TLS, a CRC32 in a trailer,
    is refused by R2 and by Ceph 16.
    """
    if not uri.startswith(("s3://", "s3a://")):
        return {"use_listings_cache": False}
    client = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    return {"use_listings_cache": False, "fixed_upload_size": True, "config_kwargs": client}


def _impatient_socket(address: tuple[Any, ...]) -> socket.socket:
    """For a server that stops reading in the middle of a body: aiohttp's timeouts are of connecting and of reading, so
    the kernel must end a connection on which nothing is taken for so long."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READ_TIMEOUT_S * 1000)
    return made


def _expect_no_leave() -> None:
    """Send bodies at once. Asked with `Expect: 100-continue`, a server that then says nothing is waited for for ever:
    aiohttp's read timeout starts with the body."""
    from botocore.handlers import BUILTIN_HANDLERS, add_expect_header

    with suppress(ValueError):  # done before
        BUILTIN_HANDLERS.remove(("before-call.s3", add_expect_header))


def is_s3(fs: fsspec.AbstractFileSystem) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def put_if_absent(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> bool:
    """S3's conditional put; False where the object exists, or another writer is at it at the same moment."""
    bucket, name, _ = fs.split_path(path)
    try:
        fs.call_s3("put_object", Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
    except FileExistsError:
        return False
    except OSError as error:
        if code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            return False
        raise
    return True


def refuses_second_put(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether this store heeds conditional puts: the second of one object is refused. `path` is tried and removed."""
    try:
        return put_if_absent(fs, path, b"1") and not put_if_absent(fs, path, b"2")
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return False  # it does not know the header
    finally:
        if fs.exists(path):
            remove(fs, [path])


def list_objects(fs: fsspec.AbstractFileSystem, path: str, limit: int | None = None) -> dict[str, dict[str, Any]]:
    """{path: {size, LastModified}} of the objects that begin with `path`, at most `limit`.

    A bucket that is gone is an error.
    """
    bucket, prefix, _ = fs.split_path(path)
    found: dict[str, dict[str, Any]] = {}
    more: dict[str, Any] = {"MaxKeys": limit} if limit else {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        for entry in page.get("Contents", ()):
            found[f"{bucket}/{entry['Key']}"] = {"size": entry["Size"], "LastModified": entry["LastModified"]}
        if limit or not page.get("IsTruncated"):
            return found
        more = {"ContinuationToken": page["NextContinuationToken"]}


# Of fsspec's own calls, `rm`, `mv` and `copy` take `[`, `*` and `?` in a path for a pattern; those below take none.


def remove(fs: fsspec.AbstractFileSystem, paths: Sequence[str]) -> None:
    """Delete exactly these objects. What is not there is already deleted."""
    if not is_s3(fs):
        for path in paths:
            fs.rm_file(path)
        return
    for start in range(0, len(paths), DELETED_AT_ONCE):
        places = [fs.split_path(path) for path in paths[start : start + DELETED_AT_ONCE]]
        objects = {"Objects": [{"Key": name} for _, name, _ in places], "Quiet": True}
        answer = fs.call_s3("delete_objects", Bucket=places[0][0], Delete=objects)
        for error in answer.get("Errors", ()):
            raise PermissionError(f"{error.get('Key')}: {error.get('Code')}, {error.get('Message')}")


def move(fs: fsspec.AbstractFileSystem, source: str, target: str) -> None:
    """Exactly this object, within one store."""
    fs.cp_file(source, target)
    remove(fs, [source])


def upload(fs: fsspec.AbstractFileSystem, files: Mapping[str, Path]) -> None:
    """Put local files at {path: file}, large ones in parts. An object is there whole or not at all."""
    at_once = min(2, len(files))
    fs.put(
        [str(file) for file in files.values()],
        list(files),
        batch_size=at_once,
        chunksize=PART_BYTES,
        max_concurrency=PARTS_AT_ONCE // at_once,
    )


def upload_chunks(fs: fsspec.AbstractFileSystem, path: str, chunks: Iterator[bytes], check: Callable[[], None]) -> None:
    """Put an object in pieces, one part of it in memory at a time. Unless `check` passes at the end, there is none."""
    first, second = next(chunks, b""), next(chunks, None)
    if second is None or not is_s3(fs):
        data = first + (second or b"") + b"".join(chunks)
        check()
        fs.pipe_file(path, data)
        return
    file = fs.open(path, "wb", block_size=PART_BYTES, autocommit=False)
    try:
        for data in chain([first, second], chunks):
            file.write(data)
        file.close()
        check()
    except BaseException:
        file.discard()
        file.closed = True  # or it would upload the rest when it is collected
        raise
    file.commit()


def unfinished_uploads(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[tuple[str, str, datetime]]:
    """(path, upload id, when it began) of every upload below `path` that was neither completed nor aborted."""
    bucket, prefix, _ = fs.split_path(path)
    marker: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **marker)
        for one in page.get("Uploads", []):
            yield f"{bucket}/{one['Key']}", one["UploadId"], one["Initiated"]
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort_upload(fs: fsspec.AbstractFileSystem, path: str, upload_id: str) -> None:
    """What is already completed or aborted is fine."""
    bucket, name, _ = fs.split_path(path)
    with suppress(FileNotFoundError):
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=name, UploadId=upload_id)


def download(fs: fsspec.AbstractFileSystem, sizes: Mapping[str, int], files: Mapping[str, Path]) -> dict[str, str]:
    """Get the objects {path: bytes} into {path: file}; returns {path: SHA-256}, taken as the parts come in.

    Part by part: one that breaks off is fetched again alone.
    """

    def fetch(path: str, start: int) -> None:
        end = min(start + PART_BYTES, sizes[path])
        data = fs.cat_file(path, start=start, end=end)
        if len(data) != end - start:
            raise OSError(f"{len(data)} bytes of {path} came, {end - start} were asked for")
        with files[path].open("r+b") as file:
            file.seek(start)
            file.write(data)

    for path, size in sizes.items():
        with files[path].open("wb") as file:
            file.truncate(size)
    transfers, hashes = ThreadPoolExecutor(PARTS_AT_ONCE), ThreadPoolExecutor(HASHES_AT_ONCE)
    try:
        digests = {}
        for path, size in sizes.items():
            parts = [transfers.submit(fetch, path, start) for start in range(0, size, PART_BYTES)]
            digests[path] = hashes.submit(_digest_behind, files[path], parts)
        return {path: digest.result() for path, digest in digests.items()}
    finally:
        transfers.shutdown(cancel_futures=True)
        hashes.shutdown(cancel_futures=True)


def _digest_behind(path: Path, parts: list[Future[None]]) -> str:
    """Of a file whose parts are still coming in, each read when it has come. Raises what a part raised."""
    hashed = hashlib.sha256()
    with path.open("rb", buffering=0) as file:  # a buffer would read ahead, into what has not come
        for part in parts:
            part.result()
            left = PART_BYTES
            while left and (data := file.read(min(left, HASHED_BYTES))):
                hashed.update(data)
                left -= len(data)
    return hashed.hexdigest()


def cause_of(error: Exception, fs: fsspec.AbstractFileSystem, root: str) -> Exception:
    """The error, or a clearer one: S3 answers HEAD requests without a reason, so it is asked with another request."""
    if is_s3(fs) and code_of(error) in ("", "400", "403", "404"):
        try:
            list_objects(fs, root, limit=1)
        except Exception as clearer:
            return clearer
    return error


def code_of(error: BaseException) -> str:
    """S3's name for an error, such as NoSuchBucket; empty where it has none."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


_NO_ANSWER = (
    "The store must answer; the request was made several times",
    "See to the store and give the same command again: what is stored stays",
)
_BY_CODE = {
    ("ExpiredToken", "TokenRefreshRequired", "InvalidToken"): (
        "The credentials must still be valid",
        "Renew the AWS credentials and give the same command again: what is stored stays",
    ),
    ("RequestTimeTooSkewed",): (
        "S3 refuses requests whose clock is more than 15 minutes off",
        "Set this machine's clock (NTP) and give the same command again",
    ),
    ("InvalidAccessKeyId", "SignatureDoesNotMatch"): (
        "The credentials must be ones that the store knows",
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
    ),
    ("NoSuchBucket",): ("The bucket must exist", "Create it, or correct the address or AWS_ENDPOINT_URL"),
    ("AccessDenied", "Forbidden", "403"): (
        "This user must be allowed to list, read, write and delete there",
        "Extend the policy of the bucket or of the user",
    ),
    ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504"): _NO_ANSWER,
}
_NO_ROOM = ("There must be room on the disk", "Free space, or point the store or TORL_CACHE at another disk")
_STRANGER = (
    "The server's certificate must come from an authority that this machine trusts",
    "Let AWS_CA_BUNDLE name the file with the authority's certificate, and check AWS_ENDPOINT_URL",
)
_OTHERWISE = (
    "The store must be readable and writable by this user",
    "Check permissions and free space; for S3, the credentials and AWS_ENDPOINT_URL",
)
_FINAL = (
    FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, TypeError, ValueError,
)  # fmt: skip
_BROKEN_CONNECTION = ("timeout", "timed out", "Could not connect", "onnection", "disconnected", "IncompleteRead")


def may_pass(error: BaseException) -> bool:
    """Whether the same request can succeed a little later, with nothing changed."""
    answer = rule_and_remedy(error)
    if answer is not _OTHERWISE:
        return answer is _NO_ANSWER
    refused = bool(code_of(error)) or type(error).__module__.startswith("botocore")
    return not refused and not isinstance(error, _FINAL)


def rule_and_remedy(error: BaseException) -> tuple[str, str]:
    """For an error of a file system's: what it wants, and what a person does about it."""
    code = code_of(error)
    for codes, answer in _BY_CODE.items():
        if code and code in codes:
            return answer
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _NO_ROOM
    said = f"{type(error).__name__}: {error}"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return _STRANGER
    return _NO_ANSWER if any(mark in said for mark in _BROKEN_CONNECTION) else _OTHERWISE
