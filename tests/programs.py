"""Programs that some tests need and that a machine may lack.

`make setup` installs them where it may. A test says what it needs with `need`, the only way to skip for a program.
TORL_TEST_PROGRAMS=none hides all of them from the tests and from every process they start (`make test-bare`).
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# What the tests call each of them, and its names on PATH.
PROGRAMS = {
    "gVisor": ("runsc",),
    "Ceph": ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph"),
    "PostgreSQL": ("postgres", "initdb"),
    "Chromium": ("chromium",),
    "a compiler": ("cc", "gcc", "c++", "g++", "clang", "clang++"),
}
CHOICE = "TORL_TEST_PROGRAMS"


def need(program: str) -> None:
    """Skip the test where `program`, a key of PROGRAMS, is not on PATH."""
    absent = [name for name in PROGRAMS[program] if shutil.which(name) is None]
    if absent:
        do_without(program, f"{', '.join(absent)} not on PATH")


def do_without(program: str, reason: str) -> NoReturn:
    pytest.skip(f"{program}: {reason}")


def hide(folder: Path) -> str:
    """Make a PATH without any of the programs: in `folder`, links take the place of each directory that holds one."""
    hidden = {name for names in PROGRAMS.values() for name in names}
    path = []
    for position, directory in enumerate(os.environ["PATH"].split(os.pathsep)):
        if any((Path(directory) / name).exists() for name in hidden):
            links = folder / str(position)
            links.mkdir()
            for program in Path(directory).iterdir():
                if program.name not in hidden:
                    (links / program.name).symlink_to(program)
            directory = str(links)
        path.append(directory)
    return os.pathsep.join(path)
