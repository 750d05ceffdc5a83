"""The reference engine: transformers in this process, batched with a KV cache. For tests and small models."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from torl_core.codec import load_codec
from torl_core.config import EngineConfig
from torl_core.engines.contract import closed_error, finish_of, new_token_limit
from torl_core.engines.window import engine_window
from torl_core.errors import EngineError
from torl_core.model_folder import load_model
from torl_core.protocols import Codec, Generate, Generated, Sampling
from torl_core.types import Finish


@dataclass(slots=True, eq=False)
class _Row:
    """One request while it is sampled."""

    request: Generate
    sampling: Sampling
    limit: int
    generator: torch.Generator
    answer: asyncio.Future[Generated]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None


class TransformersEngine:
    """Requests that wait are sampled together, `max_num_seqs` at most; later ones wait until that batch is done.

    Rows are padded on the left and leave the batch as they finish. Draws of a row depend on its own seed alone.
    """

    def __init__(self, config: EngineConfig, weights: Path, version: int, dtype: str, seed: int) -> None:
        self._dtype = dtype
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._codec: Codec = load_codec(weights)
        self._model = self._load(weights)
        self._version = version
        self._window = engine_window(config.max_model_len, self._model.config.to_dict())
        self._batch_size = config.max_num_seqs
        self._seeds = torch.Generator().manual_seed(seed)
        self._waiting: list[_Row] = []
        self._sampling: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transformers-engine")
        self._closed = False

    async def generate(self, request: Generate, sampling: Sampling) -> Generated:
        if self._closed:
            raise closed_error()
        limit = new_token_limit(request, self._window, int(self._model.config.vocab_size))
        seed = torch.randint(1 << 62, (), generator=self._seeds).item() if sampling.seed is None else sampling.seed
        generator = torch.Generator().manual_seed(int(seed))
        row = _Row(request, sampling, limit, generator, asyncio.get_running_loop().create_future())
        self._waiting.append(row)
        if self._sampling is None or self._sampling.done():
            self._sampling = asyncio.create_task(self._sample_waiting())
        return await row.answer

    async def load_policy(self, weights: Path, version: int) -> None:
        if self._closed:
            raise closed_error()
        if self._sampling is not None and not self._sampling.done():
            raise EngineError(
                "new weights were given while generations were in flight",
                "one generation is sampled from one policy",
                "wait for them first",
            )
        self._model = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, weights)
        self._version = version

    async def close(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for row in waiting:
            if not row.answer.done():
                row.answer.set_exception(closed_error())
        if self._sampling is not None:
            await self._sampling
        self._thread.shutdown()

    def _load(self, weights: Path) -> Any:
        return load_model(weights, self._dtype).to(self._device).eval()

    async def _sample_waiting(self) -> None:
        await asyncio.sleep(0)  # requests made in the same turn of the loop share the first batch
        while self._waiting:
            rows, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._sample, rows)
            except Exception as error:  # the boundary to torch and transformers
                failure = EngineError(
                    f"transformers failed with {type(error).__name__}: {error}",
                    "a generation that fails is not data",
                    "lower engine.max_num_seqs if memory is short; the step can be run again",
                )
                failure.__cause__ = error
            else:
                failure = closed_error()
            for row in rows:
                if row.answer.done():  # its caller was cancelled
                    continue
                if row.finish is None:
                    row.answer.set_exception(failure)
                else:
                    ids, logprobs = tuple(row.token_ids), tuple(row.logprobs)
                    row.answer.set_result(Generated(ids, logprobs, row.finish, self._version))

    @torch.inference_mode()
    def _sample(self, rows: list[_Row]) -> None:
        """Sample every row to its end. Inputs are (B, L) padded on the left, then (B, 1) beside the cache."""
        length = max(len(row.request.token_ids) for row in rows)
        ids = torch.tensor([[0] * (length - len(r.request.token_ids)) + list(r.request.token_ids) for r in rows])
        pads = torch.tensor([length - len(row.request.token_ids) for row in rows])
        mask = (torch.arange(length) >= pads[:, None]).long()
        cache: Any = None
        while rows and not self._closed:
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            output = self._model(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                position_ids=positions.to(self._device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            for row, logits in zip(rows, output.logits[:, -1].float().cpu(), strict=True):
                _append(row, logits, self._codec)
            going = [i for i, row in enumerate(rows) if row.finish is None]
            if len(going) < len(rows):
                rows = [rows[i] for i in going]
                kept = torch.tensor(going, dtype=torch.long)
                mask = mask[kept]
                if rows:
                    cache.batch_select_indices(kept.to(self._device))
            ids = torch.tensor([[row.token_ids[-1]] for row in rows])
            mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=torch.long)], dim=1)


def _append(row: _Row, logits: torch.Tensor, codec: Codec) -> None:
    """Draw the row's next token from its `logits` (V), float32."""
    token_id, logprob = draw(logits, row.sampling, row.generator)
    row.token_ids.append(token_id)
    row.logprobs.append(logprob)
    row.finish = finish_of(codec, row.token_ids, row.request.stop, row.limit)


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[int, float]:
    """A token of `logits` (V) and its log-probability under temperature, before top_p. Temperature 0: the likeliest."""
    if sampling.temperature == 0:
        logprobs = logits.log_softmax(-1)
        token_id = int(logprobs.argmax())
        return token_id, float(logprobs[token_id])
    logprobs = (logits / sampling.temperature).log_softmax(-1)
    chances = nucleus(logprobs.exp(), sampling.top_p) if sampling.top_p < 1 else logprobs.exp()
    token_id = int(torch.multinomial(chances, 1, generator=generator))
    return token_id, float(logprobs[token_id])


def nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """`chances` (V), 0 outside the smallest set of likeliest tokens that holds `top_p` of them (arXiv 1904.09751)."""
    ordered, order = chances.sort(descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return chances.scatter(-1, order[outside], 0.0)
