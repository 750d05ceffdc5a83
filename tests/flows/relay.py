"""Stands before a server, passes everything on, and fails from the moment that a test chooses."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from yarl import URL

Fault = Literal["refuses", "is silent", "answers 500"]

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Its methods may be called from any thread."""

    def __init__(self, upstream: URL) -> None:
        self.url = ""
        self._upstream = upstream
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def fail(self, fault: Fault) -> None:
        """From now on: refuse connections, as a server that ended; never answer; or answer 500 to every request."""
        asyncio.run_coroutine_threadsafe(self._fail(fault), self.loop).result(10)

    def recover(self) -> None:
        """Pass everything on again."""
        asyncio.run_coroutine_threadsafe(self._recover(), self.loop).result(10)

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self._listen(0)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.url = str(self._upstream.with_port(self._server.sockets[0].getsockname()[1]))

    async def _recover(self) -> None:
        if self._fault == "refuses":
            await self._listen(URL(self.url).port or 0)
        self._fault = None

    async def _fail(self, fault: Fault) -> None:
        self._fault = fault
        for talk in self._talks:
            talk.cancel()
        if fault == "refuses" and self._server:
            self._server.close()
        if fault != "is silent":
            for writer in self._writers:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._fault is None:
            there, back = await asyncio.open_connection(self._upstream.host, self._upstream.port)
            for source, target in ((reader, back), (there, writer)):
                self._talks.add(asyncio.create_task(_pass_on(source, target)))
        elif self._fault == "answers 500":
            with suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ERROR)
                await writer.drain()
                writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.close()


@contextmanager
def relay(upstream: str) -> Iterator[Relay]:
    made, ready, ended = Relay(URL(upstream)), threading.Event(), asyncio.Event()

    async def serve() -> None:
        await made.start()
        ready.set()
        await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield made
    finally:
        made.loop.call_soon_threadsafe(ended.set)
        thread.join(10)
