"""Which packages of the environment a snippet can import, and what is refused before anything starts."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from tests.torl_core.sandbox.conftest import JAILED
from torl_core.config import SandboxConfig
from torl_core.errors import ConfigError
from torl_core.sandbox import open_sandbox
from torl_core.sandbox.packages import packages

ALWAYS = {"mpmath", "networkx", "numpy", "pandas", "scipy", "sympy"}


def execute(config: SandboxConfig, *codes: str):
    async def work():
        sandbox = await open_sandbox(config)
        try:
            return [await sandbox.execute(code) for code in codes]
        finally:
            await sandbox.close()

    return asyncio.run(work())


def test_what_is_always_there_comes_with_what_it_depends_on():
    found = packages()
    assert set(found.names) - {"gmpy2"} == ALWAYS
    assert {"dateutil", "six.py", "numpy.libs"} <= {path.name for path in found.files}


def test_a_named_package_is_importable_and_named_in_the_error_of_a_missing_one():
    """Known to pip as PyYAML; nothing that is always there depends on it."""
    ours, theirs, missing = execute(
        JAILED.model_copy(update={"packages": ("PyYAML",)}),
        "import yaml\nprint(yaml.safe_load('[1, 2]'))",
        "import torch",
        "try:\n    import nowhere\nexcept ImportError as error:\n    print(error)\nimport scipy.nowhere",
    )
    assert (ours.status, ours.stdout) == ("ok", "[1, 2]\n")
    assert theirs.stderr.endswith(
        "ModuleNotFoundError: No module named 'torch' "
        "(what can be imported here is the standard library, mpmath, networkx, numpy, pandas, scipy, sympy, yaml)\n"
    )
    assert missing.stdout == "No module named 'nowhere'\n"  # the code's own business
    assert missing.stderr.endswith("ModuleNotFoundError: No module named 'scipy.nowhere'\n")


def test_without_being_named_it_is_not_there(jailed):
    assert jailed.execute("import yaml").status == "error"


@pytest.mark.parametrize(("name", "rule"), [("no-such-package", "not installed"), ("torl", "no module lies in")])
def test_a_package_that_cannot_be_shown_is_refused_by_name(name, rule):
    with pytest.raises(ConfigError, match=f"'{name}'.*{rule}"):
        execute(SandboxConfig(packages=(name,)))


def test_packages_of_a_service_are_given_to_the_service():
    with pytest.raises(ValidationError, match="to the services"):
        SandboxConfig(backend="remote", urls=("http://a",), packages=("pyyaml",))
