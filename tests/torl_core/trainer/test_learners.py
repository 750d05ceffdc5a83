"""One suite for every learner; the plain torch one is the oracle."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from torl_core.config import AlgorithmConfig, TrainerConfig
from torl_core.errors import DataError, LearnerError
from torl_core.packing import pack
from torl_core.protocols import Learner
from torl_core.toy.base import new_model
from torl_core.toy.tokenizer import build_tokenizer
from torl_core.trainer import open_learner
from torl_core.trainer.policy import load_policy
from torl_core.types import Batch, Sample

RATE = 2e-4
REFERENCE = TrainerConfig(backend="reference", threads=1, rows_per_micro_batch=2, row_tokens=64, betas=(0.9, 0.95))
VARIANTS = {
    "zero-0": {"zero_stage": 0},
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2},
    "zero-3": {"zero_stage": 3},
    "zero-1 on two ranks": {"zero_stage": 1, "processes": 2},
    "zero-2 on two ranks": {"zero_stage": 2, "processes": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = build_tokenizer()
    new_model(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_samples(seed: int, count: int = 9) -> list[Sample]:
    """Responses with a tool's output in their middle; sampled log-probabilities somewhat off the policy's."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        length = int(rng.integers(6, 40))
        mask = np.ones(length, np.bool_)
        mask[:3] = mask[length // 2 : length // 2 + 2] = False
        logprobs = np.where(mask, rng.normal(-6.0, 0.2, length), 0).astype(np.float32)
        samples.append(Sample(str(i), rng.integers(0, 300, length), mask, logprobs, float(rng.normal())))
    return samples


def make_batch(seed: int) -> Batch:
    return pack(make_samples(seed), row_tokens=64)


def opened(config: TrainerConfig, dtype: str = "float32") -> Learner:
    return open_learner(config, AlgorithmConfig(), dtype, temperature=1.0)


def weights_after(learner: Learner, start: Path, folder: Path, batches: list[Batch]) -> dict[str, torch.Tensor]:
    learner.load(start, None)
    for batch in batches:
        learner.update(batch, RATE)
    learner.save(folder / "policy", folder / "optimizer")
    return load_file(folder / "policy" / "model.safetensors")


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def learners() -> Iterator[Callable[[str], Learner]]:
    """Started once each, at most one of them at a time."""
    held: dict[str, Learner] = {}

    def get(name: str) -> Learner:
        if name not in held:
            for other in held.values():
                other.close()
            held.clear()
            changes = {"backend": "deepspeed", **VARIANTS[name]} if name != "reference" else {}
            held[name] = opened(REFERENCE.model_copy(update=changes))
        return held[name]

    yield get
    for learner in held.values():
        learner.close()


def test_packed_rows_give_each_samples_own_log_probabilities(model: Path) -> None:
    policy = load_policy(model, "float32", 1.0, False)
    samples = make_samples(1)

    def logprobs(batch: Batch) -> dict[tuple[int, ...], torch.Tensor]:
        every = torch.from_numpy(batch.segments > 0)
        every[:, 0] = False
        every[:, 1:] &= torch.from_numpy(batch.segments[:, 1:] == batch.segments[:, :-1])
        arrays = (torch.from_numpy(a) for a in (batch.tokens, batch.positions, batch.segments))
        with torch.no_grad():
            values, _ = policy(*arrays, every)
        places = torch.nonzero(every).tolist()
        found: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for (b, t), value in zip(places, values, strict=True):
            key = tuple(batch.tokens[b][batch.segments[b] == batch.segments[b, t]].tolist())
            found.setdefault(key, []).append(value)
        return {key: torch.stack(row) for key, row in found.items()}

    packed = logprobs(pack(samples, row_tokens=64))
    assert len(packed) == len(samples)
    for sample in samples:
        ((key, alone),) = logprobs(pack([sample], row_tokens=64)).items()
        assert torch.allclose(packed[key], alone, atol=1e-5)


def test_tool_output_has_no_gradient_at_all(model: Path, tmp_path: Path) -> None:
    learner = opened(REFERENCE)
    samples = make_samples(2)
    other = [replace(s, logprobs=np.where(s.loss_mask, s.logprobs, -3.0).astype(np.float32)) for s in samples]
    first = weights_after(learner, model, tmp_path / "a", [pack(samples, 64)])
    second = weights_after(learner, model, tmp_path / "b", [pack(other, 64)])
    assert largest_difference(first, second) == 0
    silent = [replace(s, loss_mask=np.zeros_like(s.loss_mask)) for s in samples]
    learner.load(model, None)
    stats = learner.update(pack(silent, 64), RATE)
    assert (stats.loss, stats.grad_norm, stats.trained_tokens) == (0.0, 0.0, 0)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_micro_batches_do_not_change_the_update(model: Path, tmp_path: Path, rows: int) -> None:
    whole = weights_after(opened(REFERENCE), model, tmp_path / "a", [make_batch(3)])
    cut_config = REFERENCE.model_copy(update={"rows_per_micro_batch": rows})
    cut = weights_after(opened(cut_config), model, tmp_path / "b", [make_batch(3)])
    assert largest_difference(whole, cut) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_deepspeed_makes_the_references_update(
    name: str, learners: Callable[[str], Learner], model: Path, tmp_path: Path
) -> None:
    reference, learner = opened(REFERENCE), learners(name)
    expected = weights_after(reference, model, tmp_path / "reference", [make_batch(4)])
    found = weights_after(learner, model, tmp_path / "deepspeed", [make_batch(4)])
    start = load_file(model / "model.safetensors")
    assert largest_difference(start, expected) > 1e-4, "the update moves the weights"
    assert largest_difference(expected, found) < 1e-5
    # AdamW divides by the gradient's own size, rounding noise included; the first moment is the gradient itself.
    one_moment, other_moment = (
        load_file(tmp_path / run / "optimizer" / "exp_avg.safetensors") for run in ("reference", "deepspeed")
    )
    assert largest_difference(one_moment, other_moment) < 1e-8

    one, other = reference.update(make_batch(5), RATE), learner.update(make_batch(5), RATE)
    for field in ("loss", "grad_norm", "clip_fraction", "approx_kl", "entropy", "trained_tokens"):
        assert getattr(other, field) == pytest.approx(getattr(one, field), rel=1e-4, abs=1e-6), field
    assert one.grad_norm > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", *VARIANTS])
def test_saved_and_loaded_it_trains_on_bit_for_bit(
    name: str, learners: Callable[[str], Learner], model: Path, tmp_path: Path
) -> None:
    learner = learners(name)
    whole = weights_after(learner, model, tmp_path / "whole", [make_batch(6), make_batch(7)])
    weights_after(learner, model, tmp_path / "half", [make_batch(6)])
    learner.load(tmp_path / "half" / "policy", tmp_path / "half" / "optimizer")
    learner.update(make_batch(7), RATE)
    learner.save(tmp_path / "resumed" / "policy", tmp_path / "resumed" / "optimizer")
    assert largest_difference(whole, load_file(tmp_path / "resumed" / "policy" / "model.safetensors")) == 0
    for kind in ("exp_avg", "exp_avg_sq"):
        one, other = (load_file(tmp_path / run / "optimizer" / f"{kind}.safetensors") for run in ("whole", "resumed"))
        assert largest_difference(one, other) == 0


def test_a_checkpoint_is_an_ordinary_hugging_face_folder(model: Path, tmp_path: Path) -> None:
    weights_after(opened(REFERENCE), model, tmp_path, [make_batch(8)])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    assert loaded.config.vocab_size >= len(tokenizer)
    assert (tmp_path / "policy" / "generation_config.json").exists()


@pytest.mark.slow
def test_bfloat16_keeps_float32_masters(model: Path, tmp_path: Path) -> None:
    config = REFERENCE.model_copy(update={"backend": "deepspeed", "zero_stage": 1})
    learner = opened(config, "bfloat16")
    try:
        tiny = 1e-5  # far below bfloat16's resolution of a weight: lost without masters
        learner.load(model, None)
        for seed in range(3):
            learner.update(make_batch(seed), tiny)
        learner.save(tmp_path / "policy", tmp_path / "optimizer")
        masters = load_file(tmp_path / "optimizer" / "masters.safetensors")
        assert all(tensor.dtype == torch.float32 for tensor in masters.values())
        start = {name: value.bfloat16().float() for name, value in load_file(model / "model.safetensors").items()}
        assert 0 < largest_difference(start, masters) < 1e-4
    finally:
        learner.close()


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused(model: Path, tmp_path: Path, missing: str) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / missing).unlink()
    if missing == "tokenizer.json":
        (broken / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="has no"):
        opened(REFERENCE).load(broken, None)


def test_an_update_before_load_is_refused() -> None:
    with pytest.raises(LearnerError, match="Nothing is loaded"):
        opened(REFERENCE).update(make_batch(0), RATE)


@pytest.mark.slow
def test_a_killed_worker_is_an_error_at_once_and_leaves_nothing(model: Path) -> None:
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    learner = opened(REFERENCE.model_copy(update={"backend": "deepspeed", "zero_stage": 1, "processes": 2}))
    learner.load(model, None)
    started = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    ranks = [p for p in started if "torl_core.trainer.rank" in " ".join(p.cmdline())]
    assert len(ranks) == 2
    threading.Timer(0.2, lambda: os.kill(ranks[1].pid, signal.SIGKILL)).start()
    killed = time.monotonic() + 0.2
    batches = (make_batch(seed) for seed in range(10_000))
    with pytest.raises(LearnerError, match="exit code -9"):
        all(learner.update(batch, RATE) for batch in batches)
    assert time.monotonic() - killed < 20
    learner.close()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
