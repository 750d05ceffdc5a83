"""Setup without an installation: what it refuses at once, and that the pins are those of pyproject.toml."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def _pins(build: str) -> list[Requirement]:
    lines = (ROOT / "constraints" / f"{build}.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_each_requirement_has_a_pin_that_satisfies_it(build: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = _pins(build)
    for text in [*project["dependencies"], *(line for extra in (build, "hub", "ray", "dev") for line in extras[extra])]:
        wanted = Requirement(text)
        found = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        versions = [next(iter(pin.specifier)).version for pin in found]
        assert any(wanted.specifier.contains(version) for version in versions), f"{text}: run make lock"


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_the_pins_are_of_the_default_index(build: str) -> None:
    """Torch 2.13.0 of the default index requires exactly this triton; builds for a CPU alone require none."""
    pins = {pin.name: str(pin.specifier) for pin in _pins(build)}
    assert (pins["torch"], pins["triton"]) == ("==2.13.0", "==3.7.1")
    assert "nvidia-cublas" in pins


def _setup(tmp_path: Path, *programs: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run setup as it runs for an ordinary user who has these programs and no others."""
    path = tmp_path / "a path"
    path.mkdir()
    for name in ("bash", "dirname", *programs):
        (path / name).symlink_to(str(shutil.which(name)))
    (path / "id").write_text("#!/bin/sh\necho 1000\n")
    (path / "id").chmod(0o755)
    environment = {"PATH": str(path)} | ({"PYTHON": python} if python else {})
    return subprocess.run(
        ["bash", ROOT / "infra/setup.sh"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_missing_python3_is_named_with_all_else_that_is_missing(tmp_path: Path) -> None:
    done = _setup(tmp_path)
    assert done.returncode == 1
    assert "apt-get install bubblewrap python3 python3-venv libseccomp2 " in done.stderr


def test_a_libseccomp_that_is_there_is_found_without_ldconfig(tmp_path: Path) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3, whose libraries are the system's")
    done = _setup(tmp_path, python="/usr/bin/python3")
    assert done.returncode == 1
    assert "missing system packages: run  sudo apt-get install bubblewrap  " in done.stderr
    assert "ldconfig" not in done.stderr


def test_a_python_that_is_no_program_is_named(tmp_path: Path) -> None:
    done = _setup(tmp_path, python="/nowhere/python3.11")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python3.11 is no program" in done.stderr


def test_a_virtual_environment_of_another_build_is_removed(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "infra/setup.sh", tmp_path / "infra")
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/pip").touch(mode=0o755)
    (venv / "bin/python").write_text("#!/bin/sh\nexit 7\n")  # nothing is installed
    (venv / "bin/python").chmod(0o755)
    (venv / ".ready-cpu").touch()
    command = ["bash", tmp_path / "infra/setup.sh"]
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in "-m venv .venv") exit 8 ;; esac\n')
    python.chmod(0o755)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")  # no system package is installed
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    for program in ("id", "g++"):
        (tmp_path / program).chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(build: str) -> tuple[int, str]:
        done = subprocess.run(command, env=environment | {"EXTRA": build}, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert run("cpu")[0] == 7
    assert (venv / ".ready-cpu").exists()
    code, said = run("cuda")
    assert code == 8
    assert "Removing the cpu build from .venv." in said
    assert not venv.exists()
