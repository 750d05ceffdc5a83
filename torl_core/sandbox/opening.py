"""Opening a sandbox: jailed, or not at all, or unjailed under a flag with a frightening name."""

from __future__ import annotations

import asyncio
import time

from pydantic import ValidationError

from torl_core.config import SandboxConfig
from torl_core.errors import SandboxCannotIsolate, SandboxUnavailable, TorlError
from torl_core.protocols import Sandbox
from torl_core.sandbox import gvisor, seccomp
from torl_core.sandbox.cgroups import Caps, Groups
from torl_core.sandbox.inside.limits import Jail, Limits
from torl_core.sandbox.isolation import Check, check_gvisor, check_isolation
from torl_core.sandbox.packages import packages
from torl_core.sandbox.pool import MAX_REPORT_BYTES, Pool
from torl_core.sandbox.service.client import open_remote
from torl_core.sandbox.worker import WorkerError

MIB = 1 << 20
WARM_COPY_BYTES = 128 * MIB
GVISOR_BYTES, GVISOR_PROCESS_BYTES = 512 * MIB, 16 * MIB
"""gVisor itself with the warm interpreter, and what it takes to run one more process."""


async def open_sandbox(config: SandboxConfig) -> Sandbox:
    """The backend that `config` names, on the running event loop, ready to execute.

    Raises SandboxCannotIsolate when this machine cannot jail model-written code, SandboxUnavailable when it can and
    the workers still do not start.
    """
    if config.backend == "remote":
        return await open_remote(config)
    return await open_pool(config)


async def open_pool(config: SandboxConfig) -> Pool:
    """A pool of warm interpreters on this machine. Raises as `open_sandbox`, and ConfigError for packages that are not
    installed."""
    jail = _jail(config)
    _refuse_without_isolation(jail)
    pool = Pool(config, _limits(config, jail), _groups(config, jail))
    try:
        await pool.open()
    except WorkerError as failure:
        raise SandboxUnavailable(
            f"A sandbox worker did not start: {failure}",
            "Every worker must start before the first call",
            "see `torl doctor`",
        ) from failure
    return pool


def _jail(config: SandboxConfig) -> Jail:
    if config.dangerously_run_model_code_without_isolation:
        return "none"
    return "gvisor" if config.backend == "gvisor" else "bubblewrap"


def check_worker() -> Check:
    """Start a jailed worker and let it run one snippet. A few seconds."""

    async def attempt() -> str:
        begin = time.monotonic()
        pool = await open_pool(SandboxConfig(workers=1, slots_per_worker=1))
        try:
            opened_s = time.monotonic() - begin
            call = await pool.execute("import sys, numpy, sympy\nprint(sys.version.split()[0], sympy.Integer(6) * 7)")
        finally:
            await pool.close()
        return f"{call.status}: Python {call.stdout.strip()}; started in {opened_s:.1f} s"

    remedy = "see the remedies above; if there are none, what the worker said is its reason"
    try:
        detail = asyncio.run(attempt())
    except TorlError as error:
        return Check("a worker", False, error.what, remedy)
    return Check("a worker", detail.startswith("ok") and " 42;" in detail, detail, remedy)


def check_service(url: str) -> Check:
    """Run one snippet on the service at `url`, with the token of the environment."""
    name, remedy = f"service {url}", "start `torl sandbox serve` there, and give both sides the same TORL_SANDBOX_TOKEN"

    async def attempt() -> str:
        sandbox = await open_remote(SandboxConfig(backend="remote", urls=(url,), max_retries=0))
        try:
            begin = time.monotonic()
            call = await sandbox.execute("print(6 * 7)")
        finally:
            await sandbox.close()
        return f"{call.status}: {call.stdout.strip()} after {time.monotonic() - begin:.3f} s"

    try:
        detail = asyncio.run(attempt())
    except TorlError as error:
        return Check(name, False, error.what, remedy)
    except ValidationError:
        return Check(name, False, "not the address of a service", "give http://host:port or https://host:port")
    return Check(name, detail.startswith("ok: 42 "), detail, remedy)


def _refuse_without_isolation(jail: Jail) -> None:
    for check in {"none": tuple, "bubblewrap": check_isolation, "gvisor": check_gvisor}[jail]():
        if check.required and not check.ok:
            raise SandboxCannotIsolate(
                f"{check.name}: {check.detail}", "Model-written code runs isolated or not at all", check.remedy
            )


def _groups(config: SandboxConfig, jail: Jail) -> Groups:
    """One per slot; in gVisor one per worker, whose slots are one process to this machine.

    Memory beyond one process's own limit: its /tmp, its output, and what it copies of the warm interpreter.
    """
    memory_bytes = (config.memory_mib + config.tmp_mib) * MIB + 2 * config.output_limit_bytes + WARM_COPY_BYTES
    if jail == "gvisor":
        slots = config.slots_per_worker
        own_bytes = GVISOR_BYTES + config.max_processes * GVISOR_PROCESS_BYTES
        caps = Caps(slots * memory_bytes + own_bytes, gvisor.host_tasks(slots * (config.max_processes + 1)))
        return Groups(caps, config.workers)
    caps = Caps(memory_bytes, config.max_processes + 1)
    return Groups(caps, config.workers * config.slots_per_worker, None if jail == "bubblewrap" else [])


def _limits(config: SandboxConfig, jail: Jail) -> Limits:
    return Limits(
        jail=jail,
        memory_bytes=config.memory_mib * MIB,
        max_processes=config.max_processes + 1,  # the slot itself counts as one
        tmp_bytes=config.tmp_mib * MIB,
        max_report_bytes=min(MAX_REPORT_BYTES, config.max_output_bytes // 2),
        seccomp=seccomp.filter_program().hex() if jail != "none" else "",
        packages=config.packages,
        importable=packages(config.packages).names,
    )
