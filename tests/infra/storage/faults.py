"""A proxy before an S3 server that fails on purpose: errors by code, connections that reset, stall or break off."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code} on purpose</Message></Error>'
_STATUS = {
    "InternalError": 500, "SlowDown": 503, "ExpiredToken": 400, "RequestTimeTooSkewed": 403, "NoSuchBucket": 404,
    "AccessDenied": 403,
}  # fmt: skip


@dataclass
class Fault:
    """`kind`: a code of S3's, or reset, stall, truncate. `times` matching requests fail, after `after` others."""

    kind: str
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    after: int = 0
    hits: int = 0

    def strikes(self, request: web.BaseRequest) -> bool:
        if self.method not in ("", request.method) or self.path not in request.path_qs:
            return False
        self.hits += 1
        return self.after < self.hits <= self.after + self.times

    @property
    def struck(self) -> int:
        return max(0, min(self.hits - self.after, self.times))


@dataclass
class Proxy:
    url: str
    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def fault(self, kind: str, **where: object) -> Fault:
        self.faults.append(Fault(kind, **where))
        return self.faults[-1]


@contextmanager
def proxy(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """In a thread with a loop of its own. Signatures hold: the Host header is passed on as the client sent it."""
    ready, stop = threading.Event(), asyncio.Event()
    made: list[Proxy] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            server = web.Server(lambda request: _answer(made[0], session, request))
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            port = runner.addresses[0][1]
            made.append(Proxy(f"{'https' if tls else 'http'}://127.0.0.1:{port}", upstream))
            ready.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def _answer(proxy: Proxy, session: aiohttp.ClientSession, request: web.BaseRequest) -> web.StreamResponse:
    proxy.requests.append(f"{request.method} {request.path_qs}")
    fault = next((fault for fault in proxy.faults if fault.strikes(request)), None)
    if fault and fault.kind != "truncate":
        return await _fail(fault.kind, request)
    url = URL(proxy.upstream + request.raw_path, encoded=True)
    asked = {k: v for k, v in request.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
    data = await request.content.read() or None
    async with session.request(request.method, url, headers=asked, data=data) as got:
        body = await got.read()
    headers = {k: v for k, v in got.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
    answer = web.StreamResponse(status=got.status, headers=headers)
    await answer.prepare(request)
    if request.method != "HEAD":
        await answer.write(body[: len(body) // 2] if fault else body)
    if fault:
        _cut(request)
    else:
        await answer.write_eof()
    return answer


async def _fail(kind: str, request: web.BaseRequest) -> web.StreamResponse:
    if kind == "stall":
        await asyncio.sleep(3600)
    if kind == "reset":
        _cut(request)
        return web.Response()
    await request.content.read()
    return web.Response(status=_STATUS[kind], text=_ERROR.format(code=kind), content_type="application/xml")


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
