"""Addresses of stores: a local folder by any name, or a URL whose keys every client and every command reads alike.
Locations of problems: a path, a URL, or a name behind `hf:` or `toy:`."""

from __future__ import annotations

import os
import re

_LOCAL = re.compile(r"(?:file|local)://")
_PATTERN = re.compile(r"[*?\[\]]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def local_path(address: str) -> str | None:
    """The absolute path of a local folder, given as a path or as file://; None for any other URL."""
    path = _LOCAL.sub("", address, count=1)
    if "://" in path:
        return None
    # `..` stays: behind a symbolic link it is not the folder before it.
    parts = [part for part in os.path.join(os.getcwd(), os.path.expanduser(path)).split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def address_fault(address: str) -> tuple[str, str, str] | None:
    """What is wrong with the address of a store, the rule and the remedy; None where nothing is."""
    if local_path(address) is not None:
        if "\0" in address:
            return f"store {address!r} has a NUL byte in it", "No path has one", "Correct the address"
        return None
    scheme, _, rest = address.partition("://")
    rest = rest.lstrip("/") if scheme == "memory" else rest  # fsspec itself writes it with three slashes
    names = rest.rstrip("/").split("/")
    if "::" in address:
        found, rule = "has `::` in it", "To the file system library, `::` chains two addresses"
    elif not names[0]:
        found, rule = "names no bucket", "The bucket comes first, then the prefix"
    elif "" in names:
        found = "has a doubled slash"
        rule = "S3 takes a doubled slash for a folder without a name, which not every command would find again"
    elif bad := next((name for name in names if name in (".", "..")), None):
        found, rule = f"has {bad!r} in it", "In S3 that is a name and not a way through folders"
    elif match := _PATTERN.search(rest):
        found, rule = f"has {match[0]!r} in it", "Many S3 clients take *, ?, [ and ] for patterns"
    elif match := _CONTROL.search(rest):
        found, rule = f"has the control character {match[0]!r} in it", "A prefix is printable text"
    else:
        return None
    plain = (_CONTROL.sub("", _PATTERN.sub("", name)).replace("::", "-") for name in names)
    kept = "/".join(name for name in plain if name not in ("", ".", ".."))
    remedy = f"Use an address like {scheme.rpartition('::')[2]}://{kept or 'bucket/prefix'}"
    return f"store {address!r} {found}", rule, remedy


def store_address(address: str) -> str:
    """`address` as it is. Raises ValueError where a store cannot lie there."""
    if fault := address_fault(address):
        raise ValueError(". ".join(fault))
    return address


SCHEMES = ("s3", "https", "http", "gs", "gcs", "az", "abfs", "file", "local", "memory")
"""Of the URLs that problems are read from."""


def problem_location(location: str) -> str:
    """`location` as it is. Raises ValueError where problems cannot lie there, whatever the machine holds."""
    kind, colon, rest = location.partition(":")
    if kind in ("hf", "toy") and colon and not rest.startswith("//"):
        if not rest.strip(" :"):
            names = "a dataset, such as hf:openai/gsm8k:main" if kind == "hf" else "a split, such as toy:train"
            raise ValueError(f"there is no name behind {kind!r} and its colon; give {names}")
        return location
    if not rest.startswith("//"):
        return location
    if kind not in SCHEMES:
        hint = "write hf:NAME" if kind == "hf" else f"copy the file to a folder or to one of {', '.join(SCHEMES)}"
        raise ValueError(f"problems are not read from {kind}:// addresses; {hint}")
    bucket = rest.removeprefix("//").partition("/")[0]
    if kind not in ("file", "local", "memory") and not bucket:
        raise ValueError(f"it names no {'host' if kind.startswith('http') else 'bucket'}: write {kind}://NAME/path")
    return location
