"""Warm processes of this machine: engine, learner, sandbox, grader. Only a cache: losing one costs no data.

Everything asynchronous lives on one event loop in one thread: vLLM's AsyncLLM belongs to the loop it was born on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from infra.storage.digests import digest_file
from torl_core.codec import HfCodec, load_codec
from torl_core.config import CampaignConfig, EngineConfig, SandboxConfig
from torl_core.engines import open_engine
from torl_core.errors import EngineError, GraderUnavailable, LearnerError, SandboxUnavailable
from torl_core.grading.workers import Grader, open_grader
from torl_core.launch import use_scratch
from torl_core.model_folder import CONFIG, beside_weights
from torl_core.protocols import Generator, Learner, Sandbox
from torl_core.sandbox import open_sandbox
from torl_core.trainer import open_learner
from torl_core.types import Policy

T = TypeVar("T")
log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 20.0
_FAULTS = {EngineError: "engine", SandboxUnavailable: "sandbox", GraderUnavailable: "grader"}


@dataclass(frozen=True, slots=True)
class _Model:
    """A policy's folder as an engine is given it. Two are equal if they differ in the values of the weights alone: a
    running engine can load other values."""

    architecture: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, str]
    """Digests of the tokenizer's files, the generation config and the like. Training writes config.json anew, so its
    content is compared (`architecture`), and not its bytes."""
    folder: Path = field(compare=False)
    version: int = field(compare=False)

    @classmethod
    def read(cls, folder: Path, version: int) -> _Model:
        """Raises DataError."""
        from torl_core.engines.checkpoint import ModelFolder  # imports torch

        model = ModelFolder.read(folder)
        return cls(model.architecture, model.shapes, _digests(beside_weights(folder)), folder, version)


async def _open_engine(config: EngineConfig, model: _Model, dtype: str, seed: int) -> Generator:
    return await open_engine(config, model.folder, model.version, dtype, seed)


class Resources:
    """Opens each resource at first use and keeps it for later steps, and later campaigns, that ask for the same one.

    Two ask for the same one if they give equal arguments to the function that opens it: the arguments are the key.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="resources", daemon=True)
        self._thread.start()
        self._open: dict[str, tuple[tuple[Any, ...], Any]] = {}
        self._learner: tuple[tuple[Any, ...], Learner] | None = None
        self._codec: tuple[Mapping[str, str], HfCodec] | None = None
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
        model = _Model.read(weights, policy.version)
        running = self._open.get("engine")
        engine = await self._warm("engine", _open_engine, config.engine, model, config.model.dtype, config.seed)
        wanted = f"{policy.version} {policy.digest}"
        if running and running[1] is engine and self._loaded.get("engine") != wanted:
            self._loaded.pop("engine", None)
            await engine.load_policy(weights, policy.version)
        self._loaded["engine"] = wanted
        return engine

    async def sandbox(self, config: SandboxConfig) -> Sandbox:
        return await self._warm("sandbox", open_sandbox, config)

    def codec(self, folder: Path) -> HfCodec:
        """The codec of a model folder; policies of one campaign share their tokenizer's files, and so the codec."""
        wanted = _digests([folder / CONFIG, *beside_weights(folder)])
        if self._codec is None or self._codec[0] != wanted:
            self._codec = (wanted, load_codec(folder))
        return self._codec[1]

    async def grader(self) -> Grader:
        return await self._warm("grader", open_grader)

    def start_learner(self, config: CampaignConfig) -> Learner:
        """The learner, whatever it holds. Started ahead of its use, its processes import while the engine samples."""
        given = (config.trainer, config.algorithm, config.model.dtype, config.rollout.temperature)
        if self._learner and self._learner[0] != given:
            self._drop_learner()
        if self._learner is None:
            self._learner = (given, open_learner(*given))
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

    async def _warm(self, name: str, open_it: Callable[..., Awaitable[T]], *given: Any) -> T:
        """What `open_it(*given)` opened; one that was given something else is closed first."""
        if name in self._open and self._open[name][0] != given:
            await self._open.pop(name)[1].close()
        if name not in self._open:
            self._loaded.pop(name, None)
            self._open[name] = (given, await open_it(*given))
        kept: T = self._open[name][1]
        return kept

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


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: digest_file(file) for file in files}


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
    """The process's resources, kept warm until the outermost session ends, and ended then however it ends.

    Temporary files lie in the process's own folder from then on.
    """
    global _current, _users
    use_scratch()
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
