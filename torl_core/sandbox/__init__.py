"""Runs code written by a model: `open_sandbox(config)`. What this machine can do to contain it: `check_isolation()`,
`check_gvisor()`, `check_worker()`, `check_service(url)`."""

from torl_core.sandbox.isolation import Check, check_gvisor, check_isolation
from torl_core.sandbox.opening import check_service, check_worker, open_pool, open_sandbox
from torl_core.sandbox.pool import Pool, Stats

__all__ = [
    "Check",
    "Pool",
    "Stats",
    "check_gvisor",
    "check_isolation",
    "check_service",
    "check_worker",
    "open_pool",
    "open_sandbox",
]
