"""Warm processes of this machine: engine, learner, sandbox, grader. Only a cache: losing one costs no data.

Everything asynchronous lives on one event loop in one thread: vLLM's AsyncLLM belongs to the loop it was born on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TypeVar

from infra.storage.digests import digest_file
from torl_core.codec import HfCodec, load_codec
from torl_core.config import CampaignConfig, SandboxConfig
from torl_core.engines import open_engine
from torl_core.errors import EngineError, GraderUnavailable, LearnerError, SandboxUnavailable
from torl_core.grading.workers import Grader, open_grader
from torl_core.protocols import Generator, Learner, Sandbox
from torl_core.sandbox import open_sandbox
from torl_core.trainer import open_learner
from torl_core.types import Policy

T = TypeVar("T")
log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 20.0
_FAULTS = {EngineError: "engine", SandboxUnavailable: "sandbox", GraderUnavailable: "grader"}


class Resources:
    """Opens each resource at first use and keeps it for later steps, and later campaigns, that ask for the same one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="resources", daemon=True)
        self._thread.start()
        self._open: dict[str, tuple[str, Any]] = {}
        self._learner: tuple[str, Learner] | None = None
        self._codec: tuple[str, HfCodec] | None = None
        self._loaded: dict[str, str] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait; an interrupt of the caller cancels it. A resource that failed is dropped."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except tuple(_FAULTS) as fault:
            self._drop(next(name for kind, name in _FAULTS.items() if isinstance(fault, kind)))
            raise
        except BaseException:
            future.cancel()
            with contextlib.suppress(Exception, CancelledError, FutureTimeout):
                future.result(timeout=_CLOSE_TIMEOUT_S)
            raise

    async def engine(self, config: CampaignConfig, policy: Policy, weights: Path) -> Generator:
        """The engine with `policy` in it. Call on the loop, with no generation in flight."""
        opened = False

        async def start() -> Generator:
            nonlocal opened
            opened = True
            return await open_engine(config.engine, weights, policy.version, config.model.dtype, config.seed)

        engine: Generator = await self._warm("engine", f"{config.engine.digest()} {config.model.dtype}", start)
        wanted = f"{policy.version} {policy.digest}"
        if not opened and self._loaded.get("engine") != wanted:
            self._loaded.pop("engine", None)
            await engine.load_policy(weights, policy.version)
        self._loaded["engine"] = wanted
        return engine

    async def sandbox(self, config: SandboxConfig) -> Sandbox:
        sandbox: Sandbox = await self._warm("sandbox", config.digest(), lambda: open_sandbox(config))
        return sandbox

    def codec(self, folder: Path) -> HfCodec:
        """The codec of a model folder; policies of one campaign share their tokenizer's files, and so the codec."""
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model", ".jinja"))
        wanted = " ".join(f"{path.name} {digest_file(path)}" for path in files)
        if self._codec is None or self._codec[0] != wanted:
            self._codec = (wanted, load_codec(folder))
        return self._codec[1]

    async def grader(self) -> Grader:
        grader: Grader = await self._warm("grader", "", open_grader)
        return grader

    def start_learner(self, config: CampaignConfig) -> Learner:
        """The learner, whatever it holds. Started ahead of its use, its processes import while the engine samples."""
        wanted = f"{config.trainer.digest()} {config.algorithm.digest()} {config.model.dtype}"
        if self._learner and self._learner[0] != wanted:
            self._drop_learner()
        if self._learner is None:
            learner = open_learner(config.trainer, config.algorithm, config.model.dtype, config.rollout.temperature)
            self._learner = (wanted, learner)
            self._loaded.pop("learner", None)
        return self._learner[1]

    @contextlib.contextmanager
    def learner(self, config: CampaignConfig, digest: str, load: Callable[[Learner], None]) -> Iterator[Learner]:
        """The learner holding the state named `digest`, loaded by `load` unless it holds it already.

        The state it holds afterwards is named with `learner_holds`; whatever raises inside drops the learner.
        """
        learner = self.start_learner(config)
        try:
            if self._loaded.pop("learner", None) != digest:
                load(learner)
            yield learner
        except BaseException:
            self._drop_learner()
            raise

    def learner_holds(self, digest: str) -> None:
        self._loaded["learner"] = digest

    def close(self) -> None:
        """End every process. Safe to call twice, and after any failure."""
        self._drop_learner()
        for name in list(self._open):
            self._drop(name)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_TIMEOUT_S)

    async def _warm(self, name: str, wanted: str, start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if name in self._open and self._open[name][0] != wanted:
            await self._open.pop(name)[1].close()
        if name not in self._open:
            self._loaded.pop(name, None)
            self._open[name] = (wanted, await start())
        return self._open[name][1]

    def _drop(self, name: str) -> None:
        self._loaded.pop(name, None)
        held = self._open.pop(name, None)
        if held is not None:
            closing = asyncio.run_coroutine_threadsafe(held[1].close(), self._loop)
            _closed(name, lambda: closing.result(timeout=_CLOSE_TIMEOUT_S))

    def _drop_learner(self) -> None:
        self._loaded.pop("learner", None)
        held, self._learner = self._learner, None
        if held is not None:
            _closed("learner", held[1].close)


def _closed(name: str, close: Callable[[], Any]) -> None:
    try:
        close()
    except (
        Exception,
        FutureTimeout,
        LearnerError,
    ) as error:  # closing is best effort: the work is already in the store
        log.warning("the %s did not close cleanly: %r", name, error)


_current: Resources | None = None
_users = 0


@contextlib.contextmanager
def session() -> Iterator[Resources]:
    """The process's resources, kept warm until the outermost session ends, and ended then however it ends."""
    global _current, _users
    if _current is None:
        _current = Resources()
    _users += 1
    try:
        yield _current
    finally:
        _users -= 1
        if _users == 0:
            held, _current = _current, None
            held.close()


def current() -> Resources:
    """The open session's resources. Raises RuntimeError outside `session()`: a task was called without its flow."""
    if _current is None:
        raise RuntimeError("no resources: call this inside infra.resources.session()")
    return _current
