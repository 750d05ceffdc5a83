"""vLLM's AsyncLLM behind the `Generator` protocol: the CPU build and the CUDA build, one adapter.

The front end lives on the caller's event loop; scheduling and the model run in one engine process (vLLM's EngineCore).
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Self

import psutil
from pydantic import ValidationError

from torl_core.codec import HfCodec, load_codec
from torl_core.config import EngineConfig
from torl_core.engines.checkpoint import ModelFolder, untied_copy
from torl_core.engines.contract import closed_error, finish_of, new_token_limit, until_stop
from torl_core.engines.window import engine_window
from torl_core.errors import EngineError
from torl_core.noise import VLLM_LEVEL, only_errors
from torl_core.protocols import Codec, Generate, Generated, Sampling
from torl_core.types import TokenIds

PARENT_PID = "TORL_ENGINE_PARENT_PID"
"""Environment variable that tells the engine process whose child it is (see `vllm_process`)."""

CAUSE_FILE = "TORL_ENGINE_CAUSE_FILE"
"""Environment variable with the path where a process of vLLM's writes why it did not start (see `vllm_process`)."""

_CPU_PREFILL_TOKENS = 8192
"""Least token budget of one engine step on a CPU, where a prompt is never cut (see `_cpu_arguments`)."""

_CPU_BLOCK_TOKENS = 32
"""Tokens per cache block on a CPU. Only whole blocks are shared between contexts; the kernels want multiples of 32."""

_CAUSE_CHARS = 400

_LONGEST_HOME_BYTES = 107 - 37
"""The path of a socket has at most 107 bytes, of which vLLM takes 37."""

_CLOSE_TIMEOUT_S = 5.0
"""What the engine process gets to tidy up before it is killed. It holds nothing worth keeping."""


class VllmEngine:
    """Make one with `open`. Log-probabilities are those of vLLM's `processed_logprobs`: after temperature, in float32.

    That mode also comes after top_p, so top_p below 1 is refused. A weight update is accepted from a folder with the
    same configuration and tensors only. Tied output embeddings are untied in the engine's copy of the weights, because
    vLLM's reload leaves the output head of a tied model stale.
    """

    def __init__(self, llm: Any, codec: Codec, folder: ModelFolder, window: int, version: int) -> None:
        self._llm, self._codec, self._folder, self._window, self._version = llm, codec, folder, window, version
        self._request_ids = itertools.count()
        self._in_flight = 0
        self._refusal: EngineError | None = None
        self._processes: list[BaseProcess] = []
        self._scratch = ExitStack()

    @classmethod
    async def open(cls, config: EngineConfig, weights: Path, version: int, dtype: str, seed: int) -> Self:
        codec, folder = load_codec(weights), ModelFolder.read(weights)
        _require_shared_memory()
        others = _engine_processes()
        window = engine_window(config.max_model_len, folder.config)
        with ExitStack() as scratch:
            home = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="torl-")))
            _require_room_for_sockets(home)
            with _environment(home), untied_copy(folder) as path:
                # No variable holds vLLM's own engine: this frame outlives the call, and its finalizer fails at exit.
                engine = cls(_start(config, path, window, dtype, seed, home / "cause"), codec, folder, window, version)
            engine._scratch = scratch.pop_all()
        engine._processes = [p for p in _engine_processes() if p not in others]
        _skip_text_of_logprobs(engine._llm, codec)
        return engine

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:
        self._require_usable()
        _require_top_p_1(sampling)
        limit = new_token_limit(request, self._window, self._folder.vocabulary)
        self._in_flight += 1
        try:
            token_ids, logprobs = await self._sample(request, sampling, limit)
        finally:
            self._in_flight -= 1
        # vLLM's incremental decoder can lag behind the whole text where bytes do not yet form a character.
        token_ids = until_stop(self._codec, token_ids, request.stop)
        finish = token_ids and finish_of(self._codec, token_ids, request.stop, limit)
        if not finish:
            raise EngineError(
                f"vLLM ended a generation after {len(token_ids)} of {limit} tokens",
                "generation ends at an end-of-text token, a stop string or the limit",
                "see the engine's messages; the step can be run again",
            )
        return Generated(token_ids, logprobs[: len(token_ids)], finish, self._version)

    async def load_policy(self, weights: Path, version: int) -> None:
        self._require_usable()
        if self._in_flight:
            raise EngineError(
                f"new weights were given while {self._in_flight} generations were in flight",
                "one generation is sampled from one policy",
                "wait for them first",
            )
        folder = ModelFolder.read(weights)
        self._folder.require_same_model(folder)
        self._refusal = EngineError(
            f"the engine is loading {str(weights)!r}, or failed to",
            "tokens are sampled from completely loaded weights only",
            "wait for load_policy to return; if it failed, open a new engine",
        )
        with untied_copy(folder) as path:
            await self._reload(path)
        self._version, self._refusal = version, None

    async def close(self) -> None:
        if self._llm is not None:
            llm, self._llm, self._refusal = self._llm, None, closed_error()
            llm.shutdown(timeout=_CLOSE_TIMEOUT_S)
            for process in self._processes:  # vLLM kills a slow one, and does not wait for its end
                process.kill()
                process.join()
            self._scratch.close()
            await asyncio.sleep(0)  # lets vLLM's cancelled tasks end

    async def _sample(self, request: Generate, sampling: Sampling, limit: int) -> tuple[TokenIds, tuple[float, ...]]:
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        params = SamplingParams(
            temperature=sampling.temperature,
            seed=sampling.seed,
            max_tokens=limit,
            logprobs=0,  # of the sampled token alone
            stop=list(request.stop) or None,
            include_stop_str_in_output=True,
            ignore_eos=True,  # the codec names the tokens that end a response
            stop_token_ids=sorted(self._codec.end_token_ids),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )
        prompt = tokens_input(list(request.token_ids))
        try:
            async for output in self._llm.generate(prompt, params, str(next(self._request_ids))):
                (completion,) = output.outputs
        except Exception as error:  # the boundary to vLLM; cancellation passes
            raise self._failure(error) from error
        token_ids = tuple(completion.token_ids)
        return token_ids, tuple(row[i].logprob for i, row in zip(token_ids, completion.logprobs, strict=False))

    async def _reload(self, path: Path) -> None:
        try:
            await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})
            forgotten = await self._llm.reset_prefix_cache()
        except Exception as error:
            raise self._failure(error) from error
        if not forgotten:
            raise EngineError(
                "vLLM kept its prefix cache after an update of the weights",
                "no token is sampled on keys and values of older weights",
                "open a new engine",
            )

    def _require_usable(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _failure(self, error: Exception) -> EngineError:
        if self._llm is None:
            return closed_error()
        if self._llm.errored:
            return EngineError(
                "vLLM's engine process died",
                "every call that waits for it fails",
                "see its messages (out of memory?), then open a new engine; the step can be run again",
            )
        return EngineError(
            f"vLLM failed with {type(error).__name__}: {error}",
            "a generation that fails is not data",
            "see the engine's messages; the step can be run again",
            retryable=not isinstance(error, ValueError | TypeError),  # with these it refuses a request
        )


def _engine_processes() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == "EngineCore"]


def _require_top_p_1(sampling: Sampling) -> None:
    if sampling.top_p < 1 and sampling.temperature > 0:
        raise EngineError(
            f"top_p is {sampling.top_p}",
            "vLLM gives log-probabilities after top_p's truncation, and training needs them before it",
            "set rollout.top_p to 1, or engine.backend to transformers",
            retryable=False,
        )


def _start(config: EngineConfig, path: Path, window: int, dtype: str, seed: int, cause: Path) -> Any:
    """An AsyncLLM on the running loop. vLLM is imported here, when its environment is in place."""
    only_errors()
    import torch
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from torl_core.engines.vllm_process import SingleWorker, TensorParallel

    arguments = AsyncEngineArgs(
        model=str(path),
        config_format="hf",  # where a folder has the model twice, updates are in Hugging Face's format
        load_format="safetensors",
        dtype=dtype,
        seed=seed,
        max_model_len=window,
        max_num_seqs=config.max_num_seqs,
        enforce_eager=config.enforce_eager,
        tensor_parallel_size=config.tensor_parallel_size,
        distributed_executor_backend=SingleWorker if config.tensor_parallel_size == 1 else TensorParallel,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",  # no sampling defaults from the model folder
        enable_prefix_caching=True,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **(_gpu_arguments(config) if torch.cuda.is_available() else _cpu_arguments(config, window)),
    )
    try:
        return AsyncLLM.from_engine_args(arguments)
    except Exception as error:
        raise _did_not_start(error, cause) from error


def _did_not_start(error: Exception, cause: Path) -> EngineError:
    """`cause`: the file in which a process of vLLM's says why it failed; without it vLLM refused in this process, or
    its process was killed. Of these only a lack of memory may have passed by the next try."""
    reported = cause.exists()
    why = cause.read_text() if reported else cause_of(error)
    killed = not reported and isinstance(error, RuntimeError)
    return EngineError(
        f"vLLM did not start: {'its process was killed' if killed else why.rstrip('.')}",
        "the engine needs a supported model, settings that fit it, and enough memory",
        "correct the model or the engine's settings; if memory is short, lower engine.max_num_seqs, "
        "engine.max_model_len or the cache's size. VLLM_LOGGING_LEVEL=INFO shows vLLM's own messages",
        retryable=killed or "memory" in why.lower(),
    )


def cause_of(error: BaseException) -> str:
    """The kind and the words of the error that the others were raised from, on one line and not too long."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    line = " ".join(said.split())
    return f"{type(error).__name__}: {line if len(line) <= _CAUSE_CHARS else line[: _CAUSE_CHARS - 1] + '…'}"


def _skip_text_of_logprobs(llm: Any, codec: HfCodec) -> None:
    """vLLM spells every token it gives a log-probability of, a third of its front end's time, for nobody here.

    Its incremental decoder, which finds stop strings, works on the tokenizer beneath and is not affected.
    """
    tokenizer = copy.copy(codec.tokenizer)
    tokenizer.decode = lambda *_, **__: ""
    llm.output_processor.tokenizer = tokenizer


def _gpu_arguments(config: EngineConfig) -> dict[str, Any]:
    return {"gpu_memory_utilization": config.gpu_memory_utilization}


def _cpu_arguments(config: EngineConfig, window: int) -> dict[str, Any]:
    """A prompt is prefilled in one step: vLLM 0.32 dies when it cuts the prompt of a seeded request on a CPU."""
    machine_gib = psutil.virtual_memory().total >> 30
    if config.cpu_kv_cache_gib > machine_gib:
        raise EngineError(
            f"engine.cpu_kv_cache_gib is {config.cpu_kv_cache_gib} and this machine has {machine_gib} GiB of memory",
            "the cache lies in memory",
            "lower it; 1 is enough for the demo",
            retryable=False,
        )
    return {
        "kv_cache_memory_bytes": config.cpu_kv_cache_gib << 30,
        "block_size": _CPU_BLOCK_TOKENS,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(window, _CPU_PREFILL_TOKENS),
    }


def _require_shared_memory() -> None:
    """Else vLLM says only that a file system is read-only, or that there is no such file."""
    try:
        memory = SharedMemory(create=True, size=1 << 20)
    except OSError as error:
        raise EngineError(
            f"no shared memory can be made ({error.strerror})",
            "vLLM's processes talk through /dev/shm",
            "mount a writable tmpfs there with some room (docker run: --shm-size=1g)",
            retryable=False,
        ) from error
    memory.close()
    memory.unlink()


def _require_room_for_sockets(home: Path) -> None:
    """Else vLLM's process does not start, and says only that a path is too long."""
    if len(os.fsencode(home)) > _LONGEST_HOME_BYTES:
        raise EngineError(
            f"the path of the temporary folder {str(home)!r} has {len(os.fsencode(home))} bytes",
            f"sockets of vLLM lie in it, so that it can have at most {_LONGEST_HOME_BYTES}",
            "set TMPDIR to a folder with a shorter path, such as /tmp",
            retryable=False,
        )


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """What vLLM and its process read at start. The process's environment is as before afterwards.

    Sockets and whatever the engine's process takes for temporary lie in `home`: vLLM removes none of them.

    What the user has set stands. vLLM itself adds to it while it starts (LD_PRELOAD, for one), which no later child
    should inherit.
    """
    before = dict(os.environ)
    own = {
        PARENT_PID: str(os.getpid()),
        CAUSE_FILE: str(home / "cause"),
        **_preloaded(home),
    }
    os.environ.update({**_variables(), **before, **own, "TMPDIR": str(home), "VLLM_RPC_BASE_PATH": str(home)})
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _preloaded(home: Path) -> Mapping[str, str]:
    """On a CPU, vLLM preloads torch's OpenMP by its path, unless LD_PRELOAD names one. The loader takes a blank for the
    end of a path, so where this project's has one, a link in `home` is named instead."""
    import torch

    library = next(Path(torch.__file__).parent.glob("lib/libgomp*.so*"), None)
    if torch.cuda.is_available() or library is None or " " not in str(library):
        return {}
    link = home / library.name
    link.symlink_to(library)
    return {"LD_PRELOAD": " ".join([str(link), os.environ.get("LD_PRELOAD", "")]).strip()}


def _variables() -> Mapping[str, str]:
    import torch

    quiet = {
        VLLM_LEVEL: "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }
    start = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if not torch.cuda.is_available():
        # Else the first step waits for a C++ compiler, for a helper of the sampler.
        start["TORCH_COMPILE_DISABLE"] = "1"
        # One core stays free for the front end, which decodes text and looks for stop strings.
        start["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) - 1))
    return quiet | start
