"""A command in a mount namespace of its own, where a test may mount what it likes."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def run_mounted(mount: str, command: Sequence[str | Path], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the shell command `mount`, then `command`. Skips the test where this machine has no such namespace."""
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    done = subprocess.run([*shell, *command], cwd=cwd, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    return done
