"""Calls through `execute_code` task runs, on a real Prefect server."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import prefect
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from tasks.execute import TaskSandbox
from torl_core.errors import SandboxUnavailable
from torl_core.types import ToolCall

pytestmark = pytest.mark.slow

Work = Callable[[TaskSandbox], Coroutine[Any, Any, None]]


class Sleeper:
    """Sleeps for as many seconds as the code says; "lost" is its own failure."""

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        if code == "lost":
            raise SandboxUnavailable("no worker", "a call needs one", "start one")
        await asyncio.sleep(float(code))
        return ToolCall(code, "ok" if timeout_s is None else "timeout", code, "", float(code))

    async def close(self) -> None:
        raise AssertionError("it belongs to whoever opened it")


def state_messages(environment: dict[str, str], work: Work) -> list[str]:
    """Do `work` within a flow run; what its `execute_code` task runs say of their ends."""

    @prefect.flow(name="calls")
    async def calls() -> str:
        async with TaskSandbox(Sleeper()) as sandbox:
            await work(sandbox)
        return str(prefect.context.FlowRunContext.get().flow_run.id)

    settings = {PREFECT_API_URL: environment["PREFECT_API_URL"], PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(settings):
        run_id = asyncio.run(calls())
    deadline = time.monotonic() + 30
    before = None
    while True:  # the server hears of task runs a moment later, and of one after the other
        body = {"flow_runs": {"id": {"any_": [run_id]}}}
        url = environment["PREFECT_API_URL"] + "/task_runs/filter"
        states = [run["state"] or {} for run in httpx.post(url, json=body).raise_for_status().json()]
        ended = [str(state["message"]) for state in states if state.get("type") in ("COMPLETED", "FAILED")]
        if states and len(ended) == len(states) and states == before:
            return sorted(ended)
        assert time.monotonic() < deadline, states
        before = states
        time.sleep(0.5)


def test_calls_of_a_moment_are_one_run_and_each_is_answered_when_its_own_code_ends(
    prefect_server: dict[str, str],
) -> None:
    ended: list[str] = []

    async def work(sandbox: TaskSandbox) -> None:
        async def call(code: str) -> None:
            result = await sandbox.execute(code, 1.0 if code == "0.4" else None)
            ended.append(result.stdout)

        await asyncio.gather(*map(call, ["0.6", "0.4", "0.2", "0.01"]))

    assert state_messages(prefect_server, work) == ["3 ok, 1 timeout"]
    assert ended == ["0.01", "0.2", "0.4", "0.6"]


def test_a_later_call_is_another_run(prefect_server: dict[str, str]) -> None:
    async def work(sandbox: TaskSandbox) -> None:
        slow = asyncio.create_task(sandbox.execute("2.5"))
        await asyncio.sleep(2)
        assert (await sandbox.execute("0.01")).stdout == "0.01"
        assert not slow.done()
        await slow

    assert state_messages(prefect_server, work) == ["1 ok", "1 ok"]


def test_the_sandboxs_own_failure_reaches_every_call_of_its_run_and_the_next_call_starts_anew(
    prefect_server: dict[str, str],
) -> None:
    async def work(sandbox: TaskSandbox) -> None:
        answers = await asyncio.gather(*map(sandbox.execute, ["lost", "5"]), return_exceptions=True)
        assert [type(answer) for answer in answers] == [SandboxUnavailable, SandboxUnavailable]
        assert "no worker" in str(answers[0])
        assert (await sandbox.execute("0.01")).stdout == "0.01"

    messages = state_messages(prefect_server, work)
    assert len(messages) == 2
    assert "1 ok" in messages
