"""The packages that snippets may import: whole distributions of this environment, with what they depend on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from torl_core.errors import ConfigError

ALWAYS = ("numpy", "scipy", "sympy", "mpmath", "gmpy2", "pandas", "networkx")
"""gmpy2 makes sympy faster where it is installed; the rest is."""


@dataclass(frozen=True, slots=True)
class Packages:
    """`files` and folders to show inside, directly below one folder there; `names` for the `import` statement."""

    files: tuple[Path, ...]
    names: tuple[str, ...]


@functools.cache
def packages(further: tuple[str, ...] = ()) -> Packages:
    """What every snippet may import and the distributions `further`, which have the names that pip knows them by.

    Raises ConfigError for one that is not installed or has nothing to import.
    """
    named = [*filter(None, map(_installed, ALWAYS)), *map(_required, further)]
    files = {path for one in _with_dependencies(named) for path in _entries(one)}
    names = {name for one in named for name in _import_names(one)}
    return Packages(tuple(sorted(files)), tuple(sorted(names)))


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _required(name: str) -> Distribution:
    found = _installed(name)
    if found is None:
        raise ConfigError(
            f"sandbox.packages has {name!r}, which is not installed",
            "Snippets can import what is installed in torl's own environment",
            f"run `{sys.executable} -m pip install {name}` or leave it out",
        )
    if not _import_names(found):
        raise ConfigError(
            f"sandbox.packages has {name!r}, of which no module lies in {found.locate_file('')}",
            "Only a package whose files were copied there can be shown to snippets, not an editable installation",
            "install it without --editable or leave it out",
        )
    return found


def _with_dependencies(named: Iterable[Distribution]) -> list[Distribution]:
    """Each once. Dependencies of extras, or for another platform or Python, do not count."""
    found: dict[str, Distribution] = {}
    waiting = list(named)
    while waiting:
        one = waiting.pop()
        if (name := canonicalize_name(one.metadata["Name"])) not in found:
            found[name] = one
            requirements = map(Requirement, one.requires or ())
            needed = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
            waiting += filter(None, map(_installed, needed))
    return list(found.values())


def _entries(one: Distribution) -> list[Path]:
    """Its files and folders directly in the folder it is installed in, as far as they are there."""
    first_parts = {file.parts[0] for file in one.files or ()} - {"..", "/", "__pycache__"}
    paths = (Path(str(one.locate_file(part))) for part in first_parts)
    return [path for path in paths if path.exists() and path.suffix != ".pth"]


def _import_names(one: Distribution) -> set[str]:
    """Of its packages, or of its modules where it has no package; without private ones."""
    entries = _entries(one)
    folders = {path.name for path in entries if path.is_dir() and path.name.isidentifier()}
    modules = {path.name.partition(".")[0] for path in entries if path.suffix in (".py", ".so")}
    return {name for name in folders or modules if not name.startswith("_")}
