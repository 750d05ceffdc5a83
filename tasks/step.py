"""What the steps of a campaign have in common as Prefect tasks: retries, and results kept by cache key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import prefect
from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from pydantic import TypeAdapter

from infra.blocks import results_in
from infra.progress import say
from infra.storage import Ref, Store, versions
from torl_core.config import CampaignConfig
from torl_core.errors import TorlError
from torl_core.types import Policy

F = TypeVar("F", bound=Callable[..., Any])

_MISTAKES = (AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError, ValueError)
"""What Python raises where code or its input is wrong, and nothing that a machine does."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """`optimizer` is the state a fork goes on with; None starts with a fresh one."""

    problems: Ref
    benchmarks: Mapping[str, Ref]
    policy: Policy
    optimizer: Ref | None = None


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Sampled, not yet graded."""

    data: Ref
    wall_s: float


@dataclass(frozen=True, slots=True)
class Scored:
    """The step's trajectories with rewards and advantages, judged by the version `grader` of the grader."""

    data: Ref
    wall_s: float
    grader: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trained:
    policy: Policy
    optimizer: Ref
    train_s: float
    checkpoint_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def cache_key(context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    """Everything that decides the output, to the last bit: campaign, settings, this code's version, task, and inputs.

    References hold digests, so an upstream that was computed anew with another outcome changes the key.
    """
    name = context.task.name
    config: CampaignConfig = parameters["config"]
    inputs = {k: v for k, v in parameters.items() if k != "config"}
    deciding = {"inputs": inputs, "conditions": config.conditions(), "code": versions()["code"]}
    text = TypeAdapter(dict[str, Any]).dump_json(deciding)
    return f"{config.name}-{name}-{hashlib.sha256(text).hexdigest()[:20]}"


def is_worth_retrying(task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Our errors know; a mistake of the code stays one; the rest may be the machine's fault. Says what failed."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, TorlError) and not error.retryable:
        return False
    if isinstance(error, _MISTAKES):
        return False
    say(f"{task.name} is tried again: {type(error).__name__}: {error}", "yellow")
    return True


step_task = partial(
    prefect.task,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=is_worth_retrying,
    persist_result=True,
    result_serializer="json",
    cache_key_fn=cache_key,
)


def kept_in(store: Store, step: Any) -> Any:
    """The task with its results kept in `store`: a second call with the same cache key returns the first result."""
    return step.with_options(result_storage=results_in(store))


class Stopwatch:
    """Seconds since it was made or last read."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self._started = now - self._started, now
        return elapsed
