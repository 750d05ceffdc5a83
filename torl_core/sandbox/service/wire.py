"""SandboxFusion's messages: what `/run_code` takes and answers, checked, and their translation to and from a ToolCall.

Answers carry one more object, `torl`, with what the format has no field for; other clients ignore it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import secrets
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from torl_core.sandbox.call import MEMORY_ERROR
from torl_core.sandbox.output import shortened_text
from torl_core.sandbox.pool import MAX_CODE_BYTES, MAX_TIMEOUT_S
from torl_core.types import CallStatus, ToolCall

MAX_BODY_BYTES = 48 << 20
"""No body is read past this. JSON may spell a character of code in six."""
MAX_MEMORY_MB = 1 << 20
MAX_FILES = 256
OUTPUT_LIMIT_SIGNAL = 25
"""SIGXFSZ: how the format, which has no word for it, is told that output went past its cap."""
SIGKILL = 9
MIB = 1 << 20
NOTHING: dict[str, Any] = {"stdin": None, "files": {}, "fetch": [], "mark": "", "less_memory": 0}
"""What a wrapped program is given when it is wrapped for its spelling alone."""

Seconds = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)]


class RunCodeRequest(BaseModel):
    """Body of POST /run_code. `memory_limit_MB` (MiB) can only lower the service's own limit."""

    model_config = ConfigDict(frozen=True, strict=True)

    code: str
    language: Literal["python"]
    compile_timeout: Seconds = 10.0
    run_timeout: Seconds = 10.0
    memory_limit_MB: Annotated[int, Field(ge=-1, le=MAX_MEMORY_MB)] = -1  # noqa: N815 (the format's name)
    stdin: str | None = None
    files: Annotated[dict[str, str | None], Field(max_length=MAX_FILES)] = Field(default_factory=dict)
    fetch_files: Annotated[list[str], Field(max_length=MAX_FILES)] = Field(default_factory=list)

    @field_validator("code")
    @classmethod
    def _code(cls, code: str) -> str:
        if "\0" in code:
            raise ValueError("code has a NUL byte, which no Python program may contain")
        if len(code) > MAX_CODE_BYTES:
            raise ValueError(f"code has {len(code)} characters, the most is {MAX_CODE_BYTES}")
        return code

    @field_validator("memory_limit_MB")
    @classmethod
    def _memory(cls, limit: int) -> int:
        if limit == 0:
            raise ValueError("memory_limit_MB is 0: give a positive number, or -1 for the service's own limit")
        return limit

    @field_validator("files")
    @classmethod
    def _files(cls, files: dict[str, str | None]) -> dict[str, str | None]:
        for path, content in files.items():
            _check_path(path)
            try:
                base64.b64decode(content or "", validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"files[{path[:80]!r}] is not base64") from None
        if sum(len(content or "") for content in files.values()) > MAX_CODE_BYTES:
            raise ValueError(f"files are over {MAX_CODE_BYTES} bytes of base64 together")
        return files

    @field_validator("fetch_files")
    @classmethod
    def _fetch_files(cls, paths: list[str]) -> list[str]:
        for path in paths:
            _check_path(path)
        return paths


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or len(path) > 1024:
        raise ValueError(f"the path {path[:80]!r} leaves the snippet's folder or is no path: give a relative one")


_PROGRAM = """\
import atexit, base64, json, linecache, os, sys, tempfile, traceback
def _prepare(given):
    if given["less_memory"]:
        import resource
        soft, hard = (limit - given["less_memory"] for limit in resource.getrlimit(resource.RLIMIT_AS))
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    for path, content in given["files"].items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(content or ""))
    if given["stdin"] is not None:
        with tempfile.TemporaryFile() as file:
            file.write(given["stdin"].encode(errors="surrogatepass"))
            file.seek(0)
            os.dup2(file.fileno(), 0)
        sys.stdin = open(0, errors="surrogateescape", closefd=False)
    if given["fetch"]:
        atexit.register(_fetch, given["fetch"], given["mark"])
    def report(kind, error, trace):
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace and trace.tb_next, limit=-20)))
    sys.excepthook = report
    code = base64.b64decode(given["code"])
    lines = code.decode(errors="replace").splitlines(keepends=True)
    linecache.cache["<snippet>"] = (len(code), None, lines, "<snippet>")
    if b"\\0" in code:  # compile() raises ValueError before Python 3.11.4
        raise SyntaxError("source code string cannot contain null bytes")
    return code
def _fetch(paths, mark):
    found = {}
    for path in paths:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found[path] = base64.b64encode(file.read()).decode()
    sys.stdout.flush()
    os.write(1, ("\\n" + mark + json.dumps(found)).encode())
"""


def program(request: RunCodeRequest, memory_mib: int) -> tuple[str, str]:
    """The code to execute and the mark before fetched files in its stdout. `memory_mib` is what the sandbox allows.

    Files and stdin are made inside the jail, and a lower memory limit is set there.
    """
    less_memory = 0 if request.memory_limit_MB < 0 else max(0, memory_mib - request.memory_limit_MB) * MIB
    if request.stdin is None and not (request.files or request.fetch_files or less_memory):
        return request.code, ""
    mark = secrets.token_hex(16)
    given = {"stdin": request.stdin, "files": request.files, "fetch": request.fetch_files, "mark": mark}
    return _wrapped(request.code, {**given, "less_memory": less_memory}), mark


def portable(code: str) -> str:
    """`code` itself where JSON and the format can carry it, else a program that behaves as it would."""
    try:
        code.encode()
    except UnicodeEncodeError:
        return _wrapped(code, NOTHING)
    return _wrapped(code, NOTHING) if "\0" in code else code


def _wrapped(code: str, given: dict[str, Any]) -> str:
    packed = json.dumps({**given, "code": base64.b64encode(code.encode(errors="surrogatepass")).decode()})
    run = f"exec(compile(_prepare(json.loads({packed!r})), '<snippet>', 'exec', dont_inherit=True), globals())"
    return _PROGRAM + run + "\n"


def fetched(stdout: str, mark: str) -> tuple[str, dict[str, str]]:
    """stdout as the snippet wrote it, and the files behind the mark, {path: base64}."""
    before, found, after = stdout.rpartition(f"\n{mark}") if mark else (stdout, "", "")
    if not found:
        return stdout, {}
    try:
        return before, json.loads(after)
    except ValueError:  # cut at the output cap
        return before, {}


def answer(call: ToolCall, files: dict[str, str]) -> dict[str, Any]:
    """Body of the answer to one execution."""
    timed_out = call.status == "timeout"
    return {
        "status": "Success" if call.status == "ok" else "Failed",
        "message": "",
        "compile_result": None,
        "run_result": {
            "status": "TimeLimitExceeded" if timed_out else "Finished",
            "execution_time": call.duration_s,
            "return_code": _return_code(call),
            "stdout": call.stdout,
            "stderr": call.stderr,
        },
        "executor_pod_name": None,
        "files": files,
        "torl": {
            "status": call.status,
            "queued_s": call.queued_s,
            "exit_code": call.exit_code,
            "cpu_s": call.cpu_s,
            "peak_memory_bytes": call.peak_memory_bytes,
        },
    }


def _return_code(call: ToolCall) -> int | None:
    if call.status == "timeout":
        return None
    if call.status == "output_limit":
        return -OUTPUT_LIMIT_SIGNAL
    return -SIGKILL if call.exit_code is None else call.exit_code


def sandbox_error(message: str) -> dict[str, Any]:
    """The sandbox failed, not the code; clients try again."""
    return {
        "status": "SandboxError",
        "message": message,
        "compile_result": None,
        "run_result": None,
        "executor_pod_name": None,
        "files": {},
    }


class RunResult(BaseModel):
    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class Figures(BaseModel):
    status: CallStatus
    queued_s: float
    exit_code: int | None
    cpu_s: float | None
    peak_memory_bytes: int | None


class RunCodeResponse(BaseModel):
    """Body of an answer, ours (`torl` is there) or SandboxFusion's."""

    status: Literal["Success", "Failed", "SandboxError"]
    message: str = ""
    run_result: RunResult | None = None
    torl: Figures | None = None


def tool_call(code: str, response: RunCodeResponse, max_output_bytes: int) -> ToolCall | None:
    """None when the sandbox, not the code, failed. The output of services other than ours is shortened here."""
    result = response.run_result
    if response.status == "SandboxError" or result is None or result.status == "Error":
        return None
    figures = response.torl
    stdout, stderr = result.stdout or "", result.stderr or ""
    if figures is None:
        stdout, stderr = shortened_text(stdout, max_output_bytes), shortened_text(stderr, max_output_bytes)
        timed_out = result.status == "TimeLimitExceeded"
        if not timed_out and result.return_code is None:
            return None
        exit_code = None if timed_out else result.return_code
        status = "timeout" if timed_out else _status(result.return_code or 0, stderr)
        figures = Figures(status=status, queued_s=0.0, exit_code=exit_code, cpu_s=None, peak_memory_bytes=None)
    return ToolCall(
        code=code,
        stdout=stdout,
        stderr=stderr,
        duration_s=_finite(result.execution_time),
        **figures.model_dump(),
    )


def _status(return_code: int, stderr: str) -> CallStatus:
    if return_code == 0:
        return "ok"
    if return_code < 0:
        return "crash"
    return "memory" if MEMORY_ERROR.match(stderr.rstrip().rpartition("\n")[2]) else "error"


def _finite(seconds: float | None) -> float:
    return seconds if seconds is not None and math.isfinite(seconds) else 0.0
