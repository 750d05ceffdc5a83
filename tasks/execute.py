"""Model-written code as Prefect sees it: one task run per micro-batch of calls, while generation goes on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import AsyncClientContext

from torl_core.errors import SandboxUnavailable
from torl_core.protocols import Sandbox
from torl_core.types import ToolCall

_LINGER_S = 0.1
"""A batch takes every call that waits; then the next one is let fill up for so long. A lone call starts at once."""


class _Call:
    __slots__ = ("answer", "code", "timeout_s")

    def __init__(self, code: str, timeout_s: float | None) -> None:
        self.code, self.timeout_s = code, timeout_s
        self.answer: asyncio.Future[ToolCall] = asyncio.get_running_loop().create_future()


class CallBatch:
    """Opaque to Prefect on purpose: it walks through lists and dataclasses, at more cost than running the code."""

    def __init__(self, sandbox: Sandbox, calls: list[_Call]) -> None:
        self.sandbox, self.calls = sandbox, calls

    def __str__(self) -> str:
        return f"{len(self.calls)}-calls"


@task(name="execute_code", task_run_name="execute_code-{batch}", cache_policy=NO_CACHE, persist_result=False)
async def execute_code(batch: CallBatch) -> dict[str, int]:
    """Run a batch; each call is answered the moment its own code ends. Returns how many ended with which status."""
    counts: dict[str, int] = {}

    async def run(call: _Call) -> None:
        result = await batch.sandbox.execute(call.code, call.timeout_s)
        counts[result.status] = counts.get(result.status, 0) + 1
        if not call.answer.done():
            call.answer.set_result(result)

    async with asyncio.TaskGroup() as group:
        for call in batch.calls:
            group.create_task(run(call))
    return counts


class TaskSandbox:
    """A Sandbox whose calls are seen as `execute_code` task runs. Lives for one rollout; does not own `sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._client = AsyncExitStack()
        self._waiting: list[_Call] = []
        self._batches: set[asyncio.Task[None]] = set()
        self._next_batch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # One client for all batches: Prefect otherwise makes one, with its TLS context, for each (16 ms of CPU).
        await self._client.enter_async_context(AsyncClientContext.get_or_create())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
        await self._client.aclose()

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        call = _Call(code, timeout_s)
        self._waiting.append(call)
        if self._next_batch is None:
            self._next_batch = asyncio.create_task(self._dispatch())
        return await call.answer

    async def close(self) -> None:
        """Cancel what still runs."""
        running = [*self._batches, *([self._next_batch] if self._next_batch else [])]
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _dispatch(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting, []
            batch = asyncio.create_task(self._run(calls))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)
            await asyncio.sleep(_LINGER_S)
        self._next_batch = None

    async def _run(self, calls: list[_Call]) -> None:
        try:
            await execute_code(CallBatch(self._sandbox, calls))
        except BaseException as error:  # whatever kept the batch from running is the waiting calls' answer
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(_unavailable(error))
            if isinstance(error, asyncio.CancelledError):
                raise


def _unavailable(error: BaseException) -> SandboxUnavailable:
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    for cause in causes:
        if isinstance(cause, SandboxUnavailable):
            return cause
    return SandboxUnavailable(
        f"a batch of calls was not executed ({type(causes[0]).__name__}: {causes[0]})",
        "every call gets the result of its own code",
        "the step is tried again; if it persists, look at the execute_code task run's log",
    )
