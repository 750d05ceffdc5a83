"""JSON lines in, JSON lines out, each answered as soon as it is done: the loop behind `torl exec` and `torl grade`."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TextIO

from torl_core.errors import DataError, TorlError

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

_MAX_IN_FLIGHT = 4096
"""Lines read ahead of their answers; past it reading waits, so that a fast writer cannot fill the memory."""


async def serve_lines(answer: Answer, stdin: TextIO = sys.stdin, stdout: TextIO = sys.stdout) -> int:
    """Answer every line of `stdin` until it ends; return how many lines could not be answered.

    A line that is not a JSON object with an `id`, or that `answer` refuses with a TorlError, is answered with
    {id, line, error_type, error} and counted. Raises BrokenPipeError when nobody reads the answers any more.
    """
    if isinstance(stdin, io.TextIOWrapper):  # whatever the locale: a bad byte is one line's trouble, not the reader's
        stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    refused = 0
    slots = threading.Semaphore(_MAX_IN_FLIGHT)

    async def one(number: int, line: str) -> None:
        nonlocal refused
        identifier = None
        try:
            request = parse_line(line)
            identifier = request["id"]
            reply = {"id": identifier, **await answer(request)}
        except TorlError as error:
            refused += 1
            name = type(error).__name__
            reply = {"id": identifier, "line": number, "error_type": name, "error": str(error)}
        finally:
            slots.release()
        stdout.write(json.dumps(reply) + "\n")
        stdout.flush()

    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as answering:
            number = 0
            async for line in _read(stdin, slots):
                number += 1
                answering.create_task(one(number, line))
    except BaseExceptionGroup as errors:
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure
    return refused


async def _read(stdin: TextIO, slots: threading.Semaphore) -> AsyncIterator[str]:
    """Lines of a blocking stream. The reader is a daemon thread, so that Ctrl-C need not wait for the next line."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        for line in stdin:
            slots.acquire()
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        if line.strip():
            yield line
        else:
            slots.release()


def parse_line(line: str) -> dict[str, Any]:
    """Raises DataError unless the line is a JSON object with an `id`."""
    try:
        line.encode()
        request = json.loads(line)
    except UnicodeEncodeError:
        raise DataError(
            f"the line {line[:80]!r} is not UTF-8", "every line is a JSON object in UTF-8", "encode it so"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"the line {line[:80]!r} is not JSON ({error})", "every line is a JSON object", "see --help"
        ) from None
    if not isinstance(request, dict) or "id" not in request:
        raise DataError(f"the line {line[:80]!r} has no id", "answers are matched by id", "add an id of any JSON type")
    return request


def text_of(request: dict[str, Any], key: str) -> str:
    """A required text field. Raises DataError."""
    value = request.get(key)
    if not isinstance(value, str):
        raise DataError(f"{key} is {json.dumps(value)[:80]}", f"{key} is a string", f"give {key} as a JSON string")
    return value


def language_of(request: dict[str, Any]) -> None:
    """Refuse a language other than Python, the only one there is. Raises DataError."""
    value = request.get("language", "python")
    if value not in ("python", "python3"):
        raise DataError(
            f"language is {json.dumps(value)[:80]}", "snippets are Python", 'leave language out, or give "python"'
        )


def positive_of(request: dict[str, Any], key: str, most: float) -> float | None:
    """An optional number in (0, most]. Raises DataError."""
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise DataError(
            f"{key} is {json.dumps(value)[:80]}",
            f"{key} is a number over 0 and at most {most:g}",
            f"correct {key} or leave it out",
        )
    return float(value)
