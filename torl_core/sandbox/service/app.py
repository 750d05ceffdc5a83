"""The service: SandboxFusion's `/run_code` and `/v1/ping` in front of a pool, and `/metrics`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import ipaddress
import json
import signal
import socket
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from torl_core.config import SandboxConfig
from torl_core.errors import ConfigError, DataError, SandboxUnavailable
from torl_core.protocols import Sandbox
from torl_core.sandbox.opening import open_sandbox
from torl_core.sandbox.output import shortened_text
from torl_core.sandbox.service import wire
from torl_core.types import ToolCall

RETRY_AFTER_S = 1
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Service:
    """Handlers and their counters. At most `capacity` calls are held; one more is told to come back. `memory_mib` is
    what `sandbox` allows a snippet. `sandbox` keeps all output, so that fetched files are whole; the answer has at most
    `max_output_bytes` of stdout and of stderr."""

    def __init__(self, sandbox: Sandbox, capacity: int, memory_mib: int, max_output_bytes: int, token: str) -> None:
        self._sandbox, self._capacity, self._memory_mib = sandbox, capacity, memory_mib
        self._max_output_bytes, self._token = max_output_bytes, token.encode()
        self._held = 0
        self._registry = CollectorRegistry()
        self._calls = Counter("torl_sandbox_calls", "Snippets run", ["status"], registry=self._registry)
        self._refused = Counter("torl_sandbox_refused", "Requests not run", ["reason"], registry=self._registry)
        names = ("torl_sandbox_run_seconds", "torl_sandbox_queue_seconds")
        self._run, self._queue = (
            Histogram(name, "Wall time of a snippet, and before it", buckets=BUCKETS, registry=self._registry)
            for name in names
        )
        held = Gauge("torl_sandbox_held_calls", "Calls running or waiting", registry=self._registry)
        held.set_function(lambda: self._held)
        Gauge("torl_sandbox_capacity_calls", "Most calls held", registry=self._registry).set(capacity)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/run_code", self.run_code, methods=["POST"]),
                Route("/v1/ping", self.ping),
                Route("/metrics", self.metrics),
            ]
        )

    async def ping(self, _: Request) -> Response:
        return JSONResponse("pong")

    async def metrics(self, request: Request) -> Response:
        if not self._knows(request):
            return self._unauthorised()
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def run_code(self, request: Request) -> Response:
        if not self._knows(request):
            return self._unauthorised()
        if self._held >= self._capacity:
            self._refused.labels("busy").inc()
            detail = f"{self._held} calls are held, the most is {self._capacity}"
            return JSONResponse({"detail": detail}, 429, {"Retry-After": str(RETRY_AFTER_S)})
        self._held += 1
        try:
            return await self._answer(request)
        finally:
            self._held -= 1

    async def _answer(self, request: Request) -> Response:
        try:
            wanted = wire.RunCodeRequest.model_validate(json.loads(await _body(request)))
        except ClientDisconnect:
            return Response(status_code=499)
        except ValidationError as error:
            return self._bad(error.errors(include_url=False, include_context=False, include_input=False))
        except (ValueError, RecursionError) as error:
            return self._bad([{"type": "json_invalid", "loc": ["body"], "msg": str(error)[:200]}])
        code, mark = wire.program(wanted, self._memory_mib)
        try:
            call = await self._execute(request, code, wanted.run_timeout)
        except SandboxUnavailable as error:
            self._refused.labels("sandbox_error").inc()
            return JSONResponse(wire.sandbox_error(str(error)))
        except DataError as error:
            return self._bad([{"type": "value_error", "loc": ["body"], "msg": str(error)}])
        if call is None:
            self._refused.labels("disconnected").inc()
            return Response(status_code=499)
        self._calls.labels(call.status).inc()
        self._run.observe(call.duration_s)
        self._queue.observe(call.queued_s)
        stdout, files = wire.fetched(call.stdout, mark)
        most = self._max_output_bytes
        kept = dataclasses.replace(call, stdout=shortened_text(stdout, most), stderr=shortened_text(call.stderr, most))
        return JSONResponse(wire.answer(kept, files))

    async def _execute(self, request: Request, code: str, timeout_s: float) -> ToolCall | None:
        """None when the client left; its snippet is killed."""
        running = asyncio.ensure_future(self._sandbox.execute(code, timeout_s))
        leaving = asyncio.ensure_future(request.receive())  # the body is read: what comes now is the end
        try:
            await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else None
        finally:
            for task in (running, leaving):
                task.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)

    def _knows(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").encode()
        return not self._token or hmac.compare_digest(given, b"Bearer " + self._token)

    def _unauthorised(self) -> Response:
        self._refused.labels("unauthorised").inc()
        return JSONResponse({"detail": "a bearer token is required"}, 401, {"WWW-Authenticate": "Bearer"})

    def _bad(self, detail: list[Any]) -> Response:
        self._refused.labels("bad_request").inc()
        return JSONResponse({"detail": detail}, 422)


async def _body(request: Request) -> bytes:
    """Raises ValueError past MAX_BODY_BYTES."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > wire.MAX_BODY_BYTES:
            raise ValueError(f"the body is over {wire.MAX_BODY_BYTES} bytes")
    return bytes(body)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for sock in server.sockets:
                host, port = sock.getsockname()[:2]
                print(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", flush=True)


async def serve(config: SandboxConfig, *, host: str, port: int, token: str, max_waiting: int, drain_s: int) -> None:
    """Serve until SIGTERM or SIGINT, then let the calls in flight end, at most `drain_s` seconds.

    Raises ConfigError for an address beyond loopback without a token or one where it cannot listen, and what
    `open_sandbox` raises.
    """
    if not token and not _is_loopback(host):
        raise ConfigError(
            f"The service would listen on {host} for anybody",
            "Beyond loopback it needs a token",
            "set TORL_SANDBOX_TOKEN",
        )
    with _listening(host, port) as sock:
        await _serve(config, sock, token, max_waiting, drain_s)


async def _serve(config: SandboxConfig, sock: socket.socket, token: str, max_waiting: int, drain_s: int) -> None:
    sandbox = await open_sandbox(config.model_copy(update={"max_output_bytes": config.output_limit_bytes}))
    try:
        capacity = config.workers * config.slots_per_worker + max_waiting
        app = Service(sandbox, capacity, config.memory_mib, config.max_output_bytes, token).app()
        options = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=drain_s)
        with contextlib.suppress(ValueError):  # uvicorn raises its signal again when it is done: by then all is closed
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await _Server(options).serve([sock])
    finally:
        await sandbox.close()


def _listening(host: str, port: int) -> socket.socket:
    """Taken before the sandbox starts, so that a port in use is refused at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python repeats the address
        raise ConfigError(
            f"The service cannot listen on port {port} of {host}: {reason}",
            "It needs an address of this machine and a port that is free and that this user may take",
            "choose another --port (0 takes a free one) or --host, or end the program that listens there",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
