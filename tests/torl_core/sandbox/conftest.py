"""One warm sandbox per backend for all tests here: starting one takes seconds, a snippet milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from torl_core.config import SandboxConfig
from torl_core.sandbox import Pool, open_sandbox
from torl_core.types import ToolCall

JAILED = SandboxConfig(workers=1, slots_per_worker=2, timeout_s=10.0, memory_mib=256, max_processes=32, tmp_mib=16)
UNJAILED = JAILED.model_copy(update={"dangerously_run_model_code_without_isolation": True})


@dataclass(frozen=True)
class Bench:
    """A sandbox and the loop it lives on."""

    runner: asyncio.Runner
    pool: Pool

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


@pytest.fixture(scope="session", params=[JAILED, UNJAILED], ids=["jailed", "unjailed"])
def any_backend(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every backend of the Sandbox protocol; another one joins by adding its opener here."""
    yield from opened(request.param)
