"""Opening a sandbox: jailed, or not at all, or unjailed under a flag with a frightening name."""

from __future__ import annotations

from torl_core.config import SandboxConfig
from torl_core.errors import SandboxCannotIsolate, SandboxUnavailable
from torl_core.protocols import Sandbox
from torl_core.sandbox import seccomp
from torl_core.sandbox.inside.limits import Limits
from torl_core.sandbox.isolation import check_isolation
from torl_core.sandbox.pool import MAX_REPORT_BYTES, Pool
from torl_core.sandbox.service.client import open_remote
from torl_core.sandbox.worker import WorkerError

MIB = 1 << 20


async def open_sandbox(config: SandboxConfig) -> Sandbox:
    """The backend that `config` names, on the running event loop, ready to execute.

    Raises SandboxCannotIsolate when this machine cannot jail model-written code, SandboxUnavailable when it can and
    the workers still do not start.
    """
    if config.backend == "remote":
        return await open_remote(config)
    return await open_pool(config)


async def open_pool(config: SandboxConfig) -> Pool:
    """A pool of warm interpreters on this machine. Raises as `open_sandbox`."""
    jailed = not config.dangerously_run_model_code_without_isolation
    if jailed:
        _refuse_without_isolation()
    pool = Pool(config, _limits(config, jailed))
    try:
        await pool.open()
    except WorkerError as failure:
        raise SandboxUnavailable(
            f"A sandbox worker did not start: {failure}",
            "Every worker must start before the first call",
            "see `torl doctor`",
        ) from failure
    return pool


def _refuse_without_isolation() -> None:
    for check in check_isolation():
        if check.required and not check.ok:
            raise SandboxCannotIsolate(
                f"{check.name}: {check.detail}", "Model-written code runs isolated or not at all", check.remedy
            )


def _limits(config: SandboxConfig, jailed: bool) -> Limits:
    return Limits(
        jailed=jailed,
        memory_bytes=config.memory_mib * MIB,
        max_processes=config.max_processes + 1,  # the slot itself counts as one
        tmp_bytes=config.tmp_mib * MIB,
        max_report_bytes=min(MAX_REPORT_BYTES, config.max_output_bytes // 2),
        seccomp=seccomp.filter_program().hex() if jailed else "",
    )
