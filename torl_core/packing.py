"""Samples into mini-batches, rows and micro-batches. Pure numpy, deterministic.

The first token of a sample has nothing before it to be predicted from, so it is never trained, whatever its mask says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np

from torl_core.errors import DataError
from torl_core.types import Batch, Sample


def trainable_tokens(sample: Sample) -> int:
    """Tokens of the sample that carry loss."""
    return int(np.count_nonzero(sample.loss_mask[1:]))


def deal(samples: Sequence[Sample], groups: Sequence[str], updates: int) -> list[list[Sample]]:
    """Deal whole groups, in order of first appearance, round-robin into `updates` mini-batches.

    `groups[i]` is the group of `samples[i]`. With fewer groups than updates (ungraded groups were left out) the result
    is shorter: a mini-batch is never empty.
    """
    turn = {group: i % updates for i, group in enumerate(dict.fromkeys(groups))}
    hands: list[list[Sample]] = [[] for _ in range(min(updates, len(turn)))]
    for sample, group in zip(samples, groups, strict=True):
        hands[turn[group]].append(sample)
    return hands


def pack(samples: Sequence[Sample], row_tokens: int) -> Batch:
    """One update's samples as a Batch (B, L = row_tokens), first-fit decreasing: longest first, ties in given order.

    `loss_denominator` counts the trainable tokens of all samples. No sample makes one row of padding. Raises DataError
    for a sample that is empty, misaligned, longer than a row, or that has a trained token without a finite
    log-probability.
    """
    for sample in samples:
        _check(sample, row_tokens)
    rows = _first_fit_decreasing(samples, row_tokens)
    batch = padding(max(1, len(rows)), row_tokens, sum(map(trainable_tokens, samples)))
    for b, row in enumerate(rows):
        start = 0
        for number, sample in enumerate(row, start=1):
            span = np.s_[b, start : start + len(sample.token_ids)]
            batch.tokens[span] = sample.token_ids
            batch.positions[span] = np.arange(len(sample.token_ids))
            batch.segments[span] = number
            batch.loss_mask[span] = sample.loss_mask
            batch.logprobs[span] = sample.logprobs
            batch.advantages[span] = sample.advantage
            start += len(sample.token_ids)
    return batch


def has_signal(batch: Batch) -> bool:
    """Whether any token of the update has a gradient: it is trained, and its advantage is not zero.

    An update without one must not be applied: the optimizer's moments alone would move the weights.
    """
    continues = (batch.segments[:, 1:] == batch.segments[:, :-1]) & (batch.segments[:, 1:] > 0)
    return bool((batch.loss_mask[:, 1:] & continues & (batch.advantages[:, 1:] != 0)).any())


def deal_rows(batch: Batch, ranks: int) -> list[Batch]:
    """Rows r, r + ranks, ... for each rank r, filled up with padding rows so that every rank has equally many."""
    missing = -len(batch.tokens) % ranks
    whole = _concatenate(batch, padding(missing, batch.tokens.shape[1], 0)) if missing else batch
    return [_cut(whole, slice(r, None, ranks)) for r in range(ranks)]


def micro_batches(batch: Batch, rows: int) -> Iterator[Batch]:
    """Consecutive slices of at most `rows` rows, without the columns that are padding in all of them."""
    for start in range(0, len(batch.tokens), rows):
        part = _cut(batch, slice(start, start + rows))
        used = np.flatnonzero(part.segments.any(axis=0))
        yield _cut(part, np.s_[:, : int(used[-1]) + 1 if len(used) else 1])


def _check(sample: Sample, row_tokens: int) -> None:
    name, length = f"Sample {sample.trajectory_id}", len(sample.token_ids)
    if not (0 < length == len(sample.loss_mask) == len(sample.logprobs)):
        mask, logprobs = len(sample.loss_mask), len(sample.logprobs)
        raise DataError(
            f"{name} has {length} tokens, {mask} mask entries and {logprobs} log-probabilities",
            "Entry t of every per-token array describes token t, and there is at least one",
            "Build samples from whole trajectories",
        )
    if length > row_tokens:
        raise DataError(
            f"{name} has {length} tokens and a row holds {row_tokens}",
            "A sample is never split between rows",
            f"Raise trainer.row_tokens to {length} or more, or lower rollout.max_new_tokens",
        )
    if not (np.isfinite(sample.logprobs[sample.loss_mask]).all() and np.isfinite(sample.advantage)):
        raise DataError(
            f"{name} has an advantage or a trained token's log-probability that is not finite",
            "Sampling gives every trained token a finite log-probability",
            "Sample this trajectory again",
        )


def _first_fit_decreasing(samples: Sequence[Sample], row_tokens: int) -> list[list[Sample]]:
    rows: list[list[Sample]] = []
    free: list[int] = []
    for sample in sorted(samples, key=lambda s: -len(s.token_ids)):
        length = len(sample.token_ids)
        fit = next((b for b, room in enumerate(free) if room >= length), None)
        if fit is None:
            rows.append([])
            free.append(row_tokens)
            fit = len(rows) - 1
        rows[fit].append(sample)
        free[fit] -= length
    return rows


def padding(rows: int, row_tokens: int, loss_denominator: int = 0) -> Batch:
    """Rows that hold nothing and train nothing."""
    shape = (rows, row_tokens)
    return Batch(
        tokens=np.zeros(shape, np.int64),
        positions=np.zeros(shape, np.int64),
        segments=np.zeros(shape, np.int64),
        loss_mask=np.zeros(shape, np.bool_),
        logprobs=np.zeros(shape, np.float32),
        advantages=np.zeros(shape, np.float32),
        loss_denominator=loss_denominator,
    )


_ARRAYS = tuple(f.name for f in fields(Batch) if f.name != "loss_denominator")


def _cut(batch: Batch, rows: slice | tuple[slice, slice]) -> Batch:
    return replace(batch, **{name: getattr(batch, name)[rows] for name in _ARRAYS})


def _concatenate(top: Batch, bottom: Batch) -> Batch:
    return replace(top, **{n: np.concatenate([getattr(top, n), getattr(bottom, n)]) for n in _ARRAYS})
