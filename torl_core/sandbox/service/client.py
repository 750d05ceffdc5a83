"""A Sandbox made of services elsewhere: load spread over them, failures tried again on another, the slowest hedged."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from collections import deque
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from torl_core.config import SandboxConfig
from torl_core.errors import DataError, SandboxUnavailable
from torl_core.sandbox.pool import check_call
from torl_core.sandbox.service import wire
from torl_core.types import ToolCall

TOKEN = "TORL_SANDBOX_TOKEN"
MOST_IN_FLIGHT = 256
"""Requests to one address at a time; other calls wait here."""
CONNECT_TIMEOUT_S = 5.0
QUEUE_TIMEOUT_S = 600.0
"""How long past its own limit a call may take in a service's queue, and how long full queues are waited for."""
LONGEST_PAUSE_S = 5.0
SAMPLES = 32
"""Calls seen before any is hedged."""
HEDGE_FACTOR = 3.0
"""A call is sent a second time when it has taken so many times what 95% of the last ones took."""


class _Failed(Exception):
    """An attempt that says nothing about the code."""


class _Busy(_Failed):
    """A full queue: no failure, only a reason to wait."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("its queue is full")
        self.retry_after_s = retry_after_s


@dataclass(slots=True, eq=False)
class _Address:
    url: str
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_IN_FLIGHT))
    in_flight: int = 0


async def open_remote(config: SandboxConfig) -> RemoteSandbox:
    """Raises SandboxUnavailable unless at least one address answers."""
    sandbox = RemoteSandbox(config)
    reasons = await asyncio.gather(*(sandbox.ping(url) for url in config.urls))
    if all(reasons):
        await sandbox.close()
        raise SandboxUnavailable(
            f"No sandbox service answers: {'; '.join(filter(None, reasons))}",
            "One address at least must answer /v1/ping",
            "start `torl sandbox serve` there or correct sandbox.urls",
        )
    return sandbox


class RemoteSandbox:
    """A Sandbox (torl_core/protocols.py) over `config.urls`. Made by `open_sandbox`."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=MOST_IN_FLIGHT)
        self._http = httpx.AsyncClient(headers=headers, limits=limits, trust_env=False)
        self._addresses = [_Address(url.rstrip("/")) for url in config.urls]
        self._took_s: deque[float] = deque(maxlen=256)

    async def ping(self, url: str) -> str:
        """Why the service cannot be used; empty when it can."""
        try:
            reply = await self._http.get(f"{url.rstrip('/')}/v1/ping", timeout=CONNECT_TIMEOUT_S)
        except httpx.HTTPError as error:
            return f"{url}: {error!r}"
        return "" if reply.status_code == 200 and "pong" in reply.text else f"{url}: HTTP {reply.status_code}"

    async def execute(self, code: str, timeout_s: float | None = None) -> ToolCall:
        """As Pool.execute; `queued_s` is the time in the service's queue.

        Raises DataError for a call that makes no sense, SandboxUnavailable when no service ran it after the retries.
        """
        limit_s = float(check_call(code, self._config.timeout_s if timeout_s is None else timeout_s))
        tried: set[_Address] = set()
        failures = 0

        def give_up(state: RetryCallState) -> bool:
            nonlocal failures
            busy = isinstance(state.outcome and state.outcome.exception(), _Busy)
            failures += not busy
            return failures > self._config.max_retries or (state.seconds_since_start or 0) > QUEUE_TIMEOUT_S

        retrying = AsyncRetrying(retry=retry_if_exception_type(_Failed), wait=_pause, stop=give_up, reraise=True)
        try:
            call: ToolCall = await retrying(self._hedged, code, limit_s, tried)
        except _Failed as failure:
            raise SandboxUnavailable(
                f"No sandbox service ran a snippet: {failure}",
                "A failure of the sandbox is never a result of the code",
                "see the services' logs and /metrics",
            ) from failure
        return call

    async def close(self) -> None:
        await self._http.aclose()

    async def _hedged(self, code: str, timeout_s: float, tried: set[_Address]) -> ToolCall:
        """The first answer of one address, or of a second one asked when the first is unusually slow."""
        first = asyncio.ensure_future(self._attempt(code, timeout_s, tried))
        attempts = {first}
        try:
            if len(self._addresses) > 1 and len(self._took_s) >= SAMPLES:
                usual_s = statistics.quantiles(self._took_s, n=20)[-1]
                done, _ = await asyncio.wait(attempts, timeout=HEDGE_FACTOR * usual_s)
                if not done:
                    attempts.add(asyncio.ensure_future(self._attempt(code, timeout_s, tried)))
            return await _first_success(attempts)
        finally:
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _attempt(self, code: str, timeout_s: float, tried: set[_Address]) -> ToolCall:
        address = self._choose(tried)
        tried.add(address)
        address.in_flight += 1
        try:
            async with address.room:
                started_s = asyncio.get_running_loop().time()
                call = await self._ask(address.url, code, timeout_s)
                self._took_s.append(asyncio.get_running_loop().time() - started_s)
                return call
        finally:
            address.in_flight -= 1

    def _choose(self, tried: set[_Address]) -> _Address:
        """The least loaded of those this call has not been to; all again once it has been to every one."""
        if len(tried) == len(self._addresses):
            tried.clear()
        fresh = [address for address in self._addresses if address not in tried]
        return min(fresh, key=lambda address: (address.in_flight, random.random()))

    async def _ask(self, url: str, code: str, timeout_s: float) -> ToolCall:
        """Raises _Failed, _Busy, and DataError when the service finds the request itself wrong."""
        body = {"code": wire.portable(code), "language": "python", "run_timeout": timeout_s}
        patience = httpx.Timeout(timeout_s + QUEUE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            reply = await self._http.post(f"{url}/run_code", json=body, timeout=patience)
            if reply.status_code == 429:
                raise _Busy(_seconds(reply.headers.get("retry-after")))
            if reply.status_code in (401, 403):
                raise SandboxUnavailable(
                    f"{url} refused a call: HTTP {reply.status_code} {reply.text[:200]}",
                    "A service wants the bearer token it was started with",
                    f"set {TOKEN} to that token",
                    retryable=False,
                )
            if reply.status_code == 422:
                raise DataError(f"{url} refused a call: {reply.text[:300]}", "A service checks its input", "correct it")
            if reply.status_code != 200:
                raise _Failed(f"{url}: HTTP {reply.status_code} {reply.text[:200]}")
            response = wire.RunCodeResponse.model_validate_json(reply.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise _Failed(f"{url}: {error!r}") from error
        call = wire.tool_call(code, response, self._config.max_output_bytes)
        if call is None:
            raise _Failed(f"{url}: {response.message or 'SandboxError'}")
        return call


async def _first_success(attempts: set[asyncio.Task[ToolCall]]) -> ToolCall:
    """Raises what the last one to fail raised when none succeeds."""
    waiting = set(attempts)
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        good = [attempt for attempt in done if attempt.exception() is None]
        if good or not waiting:
            return (good or list(done))[0].result()


_backoff = wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_S)


def _pause(state: RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, _Busy):
        return failure.retry_after_s * random.uniform(0.5, 1.5)
    return _backoff(state)


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or 1.0), 0.05), LONGEST_PAUSE_S)
    except ValueError:  # a date
        return 1.0
