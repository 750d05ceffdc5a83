"""The DeepSpeed learner as the campaign sees it: a client of one worker process per rank.

A crash of training is an error of one call here, never the end of this process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torl_core
from torl_core.config import AlgorithmConfig, TrainerConfig
from torl_core.errors import LearnerError
from torl_core.launch import start
from torl_core.packing import deal_rows, has_signal
from torl_core.protocols import UpdateStats
from torl_core.types import Batch

_STDERR_LINES = 25


@dataclass(frozen=True, slots=True)
class Setup:
    """What a rank is told with its first call; until then it imports, and touches no GPU.

    `rendezvous` is a file through which the ranks find each other.
    """

    trainer: TrainerConfig
    algorithm: AlgorithmConfig
    dtype: str
    temperature: float
    rank: int
    rendezvous: str


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    link: Connection
    stderr: Path


class DeepSpeedLearner:
    """ZeRO 0 to 3 on `trainer.processes` ranks. Calls may come from any thread, one at a time.

    After any error the workers are gone; open another learner and load the last checkpoint.
    """

    def __init__(self, trainer: TrainerConfig, algorithm: AlgorithmConfig, dtype: str, temperature: float) -> None:
        self._lock = threading.Lock()
        self._scratch = tempfile.TemporaryDirectory(prefix="torl-learner-", ignore_cleanup_errors=True)
        folder = Path(self._scratch.name)
        rendezvous, ranks = str(folder / "rendezvous"), range(trainer.processes)
        self._untold = [Setup(trainer, algorithm, dtype, temperature, rank, rendezvous) for rank in ranks]
        self._workers: list[_Worker] = []
        self._ended = ""
        try:
            for rank in ranks:
                self._workers.append(_start(rank, trainer.threads, folder))
        except OSError as error:
            self.close()
            raise LearnerError(
                f"Training process {rank} did not start: {error}", "The learner runs in its own processes", "See above"
            ) from error

    def load(self, weights: Path, optimizer: Path | None) -> None:
        self._call("load", [(Path(weights), optimizer and Path(optimizer))] * len(self._workers))

    def update(self, batch: Batch, learning_rate: float) -> UpdateStats:
        shares, signal = deal_rows(batch, max(1, len(self._workers))), has_signal(batch)
        stats: UpdateStats = self._call("update", [(share, learning_rate, signal) for share in shares])
        return stats

    def save(self, weights: Path, optimizer: Path) -> None:
        self._call("save", [(Path(weights), Path(optimizer))] * len(self._workers))

    def close(self) -> None:
        """Kill the workers; a call in flight in another thread fails with LearnerError. Safe to repeat."""
        self._end("it was closed")
        for worker in self._workers:
            worker.process.wait()
        self._scratch.cleanup()

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        for worker in self._workers:
            worker.process.kill()

    def _call(self, verb: str, arguments: Sequence[tuple[Any, ...]]) -> Any:
        """Have every rank do `verb` and return rank 0's result.

        Any error, an interrupt too, ends the workers: the others may wait for the failed one inside a collective.
        """
        with self._lock:
            if self._ended:
                raise LearnerError(f"This learner has ended: {self._ended}", "An ended learner stays so", _REMEDY)
            try:
                return self._exchange(verb, arguments)
            except BaseException as error:
                self._end(f"{verb} failed with {type(error).__name__}")
                raise

    def _exchange(self, verb: str, arguments: Sequence[tuple[Any, ...]]) -> Any:
        for rank, (worker, given) in enumerate(zip(self._workers, arguments, strict=True)):
            try:
                if self._untold:
                    worker.link.send(self._untold[rank])
                worker.link.send((verb, given))
            except OSError:
                raise self._died(rank, verb) from None
        self._untold = []
        rank_of = {worker.link: rank for rank, worker in enumerate(self._workers)}
        answers: dict[int, Any] = {}
        while len(answers) < len(rank_of):
            for link in wait([link for link, rank in rank_of.items() if rank not in answers]):
                assert isinstance(link, Connection)
                rank = rank_of[link]
                try:
                    answers[rank], refusal = link.recv()
                except (EOFError, OSError):
                    raise self._died(rank, verb) from None
                if refusal is not None:
                    raise refusal
        return answers[0]

    def _died(self, rank: int, verb: str) -> LearnerError:
        worker = self._workers[rank]
        try:
            code = worker.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = None
        lines = worker.stderr.read_text(errors="replace").splitlines() if worker.stderr.exists() else []
        tail = "\n".join(lines[-_STDERR_LINES:])
        return LearnerError(
            f"Training process {rank} ended during {verb} with exit code {code}; the end of its stderr:\n{tail}\n",
            "Training runs in its own processes so that this one survives",
            _REMEDY,
        )


_REMEDY = "Open another learner and load the last checkpoint"


def _start(rank: int, threads: int, folder: Path) -> _Worker:
    ours, theirs = socket.socketpair()
    stderr = folder / f"rank{rank}.log"
    home = os.pathsep.join([*_import_roots(), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # Threads that sleep at barriers: spinning ones starve each other as soon as an engine shares the cores.
    tuning = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "DEEPSPEED_LOG_LEVEL": "warning"}
    env = os.environ | tuning | {"PYTHONPATH": home}
    command = [sys.executable, "-m", "torl_core.trainer.rank", str(theirs.fileno())]
    try:
        with theirs, stderr.open("wb") as log:
            process = start(
                command, env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
    except OSError:
        ours.close()
        raise
    return _Worker(process, Connection(ours.detach()), stderr)


def _import_roots() -> list[str]:
    return [str(Path(folder).resolve().parent) for folder in torl_core.__path__]
