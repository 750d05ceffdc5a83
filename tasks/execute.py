"""Model-written code as Prefect sees it: task runs that each take the calls of a moment, while generation goes on.

A call starts the moment it arrives at an open window and is answered the moment its own code ends, so Prefect costs a
rollout a task run a second, however many calls there are, and a call nothing but the start of its window's run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Self

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.context import AsyncClientContext
from prefect.states import Completed

from torl_core.errors import SandboxUnavailable
from torl_core.protocols import Sandbox
from torl_core.types import ToolCall

_WINDOW_S = 1.0
"""How long one task run takes calls. It ends when the last of them has been answered."""


class _Call:
    __slots__ = ("answer", "code", "timeout_s")

    def __init__(self, code: str, timeout_s: float | None) -> None:
        self.code, self.timeout_s = code, timeout_s
        self.answer: asyncio.Future[ToolCall] = asyncio.get_running_loop().create_future()


class Window:
    """Calls on their way into one task run. Opaque to Prefect on purpose: it walks through lists and dataclasses, at
    more cost than running the code."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.is_open = True
        self._calls: list[_Call] = []
        self._arrivals: asyncio.Queue[_Call | None] = asyncio.Queue()

    def put(self, call: _Call) -> None:
        self._calls.append(call)
        self._arrivals.put_nowait(call)

    def close(self) -> None:
        """Take no further calls."""
        if self.is_open:
            self.is_open = False
            self._arrivals.put_nowait(None)

    async def arrivals(self) -> AsyncIterator[_Call]:
        while call := await self._arrivals.get():
            yield call

    def fail(self, error: BaseException) -> None:
        """Whatever kept the run from answering is the answer to every call that waits for one."""
        self.close()
        for call in self._calls:
            if not call.answer.done():
                call.answer.set_exception(_unavailable(error))


@task(name="execute_code", cache_policy=NO_CACHE, persist_result=False)
async def execute_code(window: Window) -> State[None]:
    """Run each call as it arrives, until the window is closed and every call answered. Raises SandboxUnavailable."""
    statuses: Counter[str] = Counter()

    async def run(call: _Call) -> None:
        result = await window.sandbox.execute(call.code, call.timeout_s)
        statuses[result.status] += 1
        if not call.answer.done():
            call.answer.set_result(result)

    asyncio.get_running_loop().call_later(_WINDOW_S, window.close)
    async with asyncio.TaskGroup() as group:
        async for call in window.arrivals():
            group.create_task(run(call))
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    return Completed(message=counts or "no calls")


class TaskSandbox:
    """A Sandbox whose calls are seen as `execute_code` task runs. Lives for one rollout; does not own `sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._window: Window | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._client = AsyncExitStack()

    async def __aenter__(self) -> Self:
        # One client for all runs: Prefect otherwise makes one, with its TLS context, for each (16 ms of CPU).
        await self._client.enter_async_context(AsyncClientContext.get_or_create())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for run in self._runs:
                run.cancel()
        await self.close()
        await self._client.aclose()

    async def close(self) -> None:
        """Wait until Prefect has heard of every call's end."""
        if self._window:
            self._window.close()
        await asyncio.gather(*self._runs, return_exceptions=True)

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        call = _Call(code, timeout_s)
        if self._window is None or not self._window.is_open:
            self._window = Window(self._sandbox)
            run = asyncio.create_task(_run(self._window))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        self._window.put(call)
        return await call.answer


async def _run(window: Window) -> None:
    try:
        await execute_code(window)
    except BaseException as error:
        window.fail(error)
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
