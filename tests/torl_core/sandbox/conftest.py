"""One warm sandbox per backend for all tests here: starting one takes seconds, a snippet milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests import programs
from torl_core.config import SandboxConfig
from torl_core.sandbox import check_gvisor, open_sandbox
from torl_core.types import ToolCall

JAILED = SandboxConfig(workers=1, slots_per_worker=2, timeout_s=10.0, memory_mib=256, max_processes=32, tmp_mib=16)
UNJAILED = JAILED.model_copy(update={"dangerously_run_model_code_without_isolation": True})


@dataclass(frozen=True)
class Bench:
    """A sandbox and the loop it lives on."""

    runner: asyncio.Runner
    pool: Any
    """A Sandbox; a Pool except for the remote backend."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        return self.run(self.pool.execute(code, timeout_s))


def opened(config: SandboxConfig) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        pool = runner.run(open_sandbox(config))
        try:
            yield Bench(runner, pool)
        finally:
            runner.run(pool.close())


@pytest.fixture(scope="session")
def jailed() -> Iterator[Bench]:
    yield from opened(JAILED)


SERVICE = [sys.executable, "-m", "flows.cli", "sandbox", "serve", "--port", "0", "--workers", "1"]


@contextlib.contextmanager
def service(*options: str, token: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real `torl sandbox serve` and its address."""
    environment = {**os.environ, "TORL_SANDBOX_TOKEN": token}
    with subprocess.Popen([*SERVICE, *options], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), "the service did not start"
            yield process, url
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    with service("--slots-per-worker", "2", "--memory-mib", "256") as (_, url):
        yield url


@pytest.fixture(scope="session")
def gvisor() -> Iterator[Bench]:
    programs.need("gVisor")
    for check in check_gvisor():
        if not check.ok:
            programs.do_without("gVisor", f"{check.name}: {check.detail}")
    yield from opened(JAILED.model_copy(update={"backend": "gvisor"}))


@pytest.fixture(
    scope="session", params=["jailed", "unjailed", "remote", pytest.param("gvisor", marks=pytest.mark.slow)]
)
def any_backend(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every backend of the Sandbox protocol; another one joins by adding its config here."""
    if request.param == "remote":
        url = request.getfixturevalue("service_url")
        yield from opened(SandboxConfig(backend="remote", urls=(url,), timeout_s=10.0))
    elif request.param == "gvisor":
        yield request.getfixturevalue("gvisor")
    else:
        yield from opened(JAILED if request.param == "jailed" else UNJAILED)
