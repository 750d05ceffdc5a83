"""One suite for every learner; the plain torch one is the oracle."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from torl_core.config import MOST, AlgorithmConfig, TrainerConfig
from torl_core.engines.checkpoint import ModelFolder, untied_copy
from torl_core.errors import DataError, EngineError, LearnerError
from torl_core.packing import pack
from torl_core.protocols import Learner
from torl_core.toy.base import new_model
from torl_core.toy.tokenizer import build_tokenizer
from torl_core.trainer import open_learner
from torl_core.trainer.checkpoint import weights_distance
from torl_core.trainer.policy import load_policy
from torl_core.types import Batch, Sample

RATE = 2e-4
REFERENCE = TrainerConfig(backend="reference", threads=1, rows_per_micro_batch=2, row_tokens=64, betas=(0.9, 0.95))
ONE_RANK = {f"zero-{stage}": {"zero_stage": stage, "processes": 1} for stage in range(4)}
SAMPLING = '{"do_sample": false, "temperature": 0.6, "eos_token_id": 256}'
TWO_RANKS = {f"{name} on two ranks": {**stage, "processes": 2} for name, stage in ONE_RANK.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some public models have such sampling settings, which transformers reads and refuses to write."""
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = build_tokenizer()
    new_model(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(SAMPLING)
    for name in ("optimizer.pt", "pytorch_model.bin"):
        (folder / name).write_bytes(b"of another run")
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


def without_signal(seed: int) -> Batch:
    batch = make_batch(seed)
    return replace(batch, advantages=np.zeros_like(batch.advantages))


def one_sided(batch: Batch) -> Batch:
    """Every second row, which is all that the first of two ranks gets, is without signal."""
    advantages = batch.advantages.copy()
    advantages[::2] = 0
    return replace(batch, advantages=advantages)


def only_row(batch: Batch, row: int) -> Batch:
    cut = {f.name: getattr(batch, f.name)[row : row + 1] for f in fields(batch) if f.name != "loss_denominator"}
    return replace(batch, **cut)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=[*ONE_RANK, *TWO_RANKS])
def learner(request: pytest.FixtureRequest) -> Iterator[Learner]:
    """DeepSpeed, each variant started once: pytest runs the tests that ask for it variant by variant."""
    held = opened(REFERENCE.model_copy(update={"backend": "deepspeed", **(ONE_RANK | TWO_RANKS)[request.param]}))
    yield held
    held.close()


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
def test_deepspeed_makes_the_references_update(learner: Learner, model: Path, tmp_path: Path) -> None:
    reference = opened(REFERENCE)
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

    # Of two ranks, one has half of the rows, no row at all, and rows without a gradient.
    batches = {"usual": make_batch(5), "one row": only_row(make_batch(6), 0), "one-sided": one_sided(make_batch(7))}
    for name, batch in batches.items():
        one, other = reference.update(batch, RATE), learner.update(batch, RATE)
        for field in ("loss", "grad_norm", "clip_fraction", "approx_kl", "entropy", "trained_tokens", "skipped"):
            assert getattr(other, field) == pytest.approx(getattr(one, field), rel=1e-4, abs=1e-6), (name, field)
        assert one.grad_norm > 0
    reference.save(tmp_path / "reference" / "policy", tmp_path / "reference" / "optimizer")
    learner.save(tmp_path / "deepspeed" / "policy", tmp_path / "deepspeed" / "optimizer")
    expected, found = (load_file(tmp_path / run / "policy" / "model.safetensors") for run in ("reference", "deepspeed"))
    assert largest_difference(expected, found) < 5e-5


@pytest.mark.slow
def test_saved_and_loaded_deepspeed_trains_on_bit_for_bit(learner: Learner, model: Path, tmp_path: Path) -> None:
    trains_on_bit_for_bit(learner, model, tmp_path)


def test_saved_and_loaded_the_reference_trains_on_bit_for_bit(model: Path, tmp_path: Path) -> None:
    trains_on_bit_for_bit(opened(REFERENCE), model, tmp_path)


def trains_on_bit_for_bit(learner: Learner, model: Path, tmp_path: Path) -> None:
    weights_after(learner, model, tmp_path / "whole", [make_batch(6), make_batch(7)])
    weights_after(learner, model, tmp_path / "half", [make_batch(6)])
    learner.load(tmp_path / "half" / "policy", tmp_path / "half" / "optimizer")
    learner.update(make_batch(7), RATE)
    learner.save(tmp_path / "resumed" / "policy", tmp_path / "resumed" / "optimizer")
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_an_update_without_signal_changes_no_bit_of_deepspeeds_state(
    learner: Learner, model: Path, tmp_path: Path
) -> None:
    without_signal_no_bit_changes(learner, model, tmp_path)


def test_an_update_without_signal_changes_no_bit_of_the_references_state(model: Path, tmp_path: Path) -> None:
    without_signal_no_bit_changes(opened(REFERENCE), model, tmp_path)


def without_signal_no_bit_changes(learner: Learner, model: Path, tmp_path: Path) -> None:
    """Momentum of an earlier update must not move the weights, and Adam's count of updates must stay."""
    weights_after(learner, model, tmp_path / "before", [make_batch(8)])
    weights_after(learner, model, tmp_path / "before then one", [make_batch(8), make_batch(9)])
    weights_after(learner, model, tmp_path / "with none between", [make_batch(8), without_signal(9), make_batch(9)])
    weights_after(learner, model, tmp_path / "after", [make_batch(8)])
    stats = learner.update(without_signal(9), RATE)
    learner.save(tmp_path / "after" / "policy", tmp_path / "after" / "optimizer")
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")
    assert files_of(tmp_path / "with none between") == files_of(tmp_path / "before then one")
    # The statistics are those of the batch all the same.
    applied = learner.update(one_sided(make_batch(9)), RATE)
    assert (stats.skipped, stats.loss, stats.grad_norm) == (True, 0.0, 0.0)
    assert not applied.skipped
    assert stats.trained_tokens == applied.trained_tokens > 0
    assert (stats.entropy, stats.approx_kl) == pytest.approx((applied.entropy, applied.approx_kl))


def test_a_checkpoint_is_an_ordinary_hugging_face_folder(model: Path, tmp_path: Path) -> None:
    weights_after(opened(REFERENCE), model, tmp_path, [make_batch(8)])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    assert loaded.config.vocab_size >= len(tokenizer)
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (tmp_path / "policy" / "generation_config.json").read_text() == SAMPLING


def test_a_checkpoint_whose_weights_are_not_finite_is_not_written(model: Path, tmp_path: Path) -> None:
    learner = opened(REFERENCE.model_copy(update={"weight_decay": 11.0}))
    learner.load(model, None)
    learner.update(make_batch(8), 3e37)  # beyond float32: the gradient is finite, and its update is not
    with pytest.raises(LearnerError, match=r"weight of the new checkpoint has a value that is NaN") as caught:
        learner.save(tmp_path / "policy", tmp_path / "optimizer")
    assert not caught.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_the_largest_settings_of_a_config_end_in_an_error_of_the_learner(model: Path) -> None:
    """Torch itself refuses a rate near float32's largest number with a RuntimeError, hence the bound."""
    largest = {"learning_rate": MOST, "weight_decay": MOST, "max_grad_norm": MOST, "betas": (0.999999, 0.999999)}
    config = TrainerConfig.model_validate(REFERENCE.model_dump() | largest)
    learner = opened(config)
    learner.load(model, None)
    learner.update(make_batch(8), config.learning_rate)
    with pytest.raises(LearnerError, match="An update is finite"):
        learner.update(make_batch(9), config.learning_rate)


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
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / missing).unlink()
    if missing == "tokenizer.json":
        (broken / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match="has no"):
        opened(REFERENCE).load(broken, None)


@pytest.mark.parametrize(
    ("config", "without", "said"),
    [
        ({}, "lm_head.weight", r"have no tensor lm_head.weight of the shape"),
        ({"intermediate_size": 64}, "", r"have no tensor model.layers.0.mlp.down_proj.weight of .*, nor 5 others"),
        ({"num_hidden_layers": 3}, "", r"has no weights of layer 2"),
    ],
)
def test_a_tensor_that_would_get_random_values_is_refused(
    model: Path, tmp_path: Path, config: dict[str, Any], without: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        opened(REFERENCE).load(changed(model, tmp_path / "changed", config, without), None)


@pytest.mark.parametrize("without", ["lm_head.weight", ""])
def test_tied_output_embeddings_may_be_stored_or_not(model: Path, tmp_path: Path, without: str) -> None:
    tied = changed(model, tmp_path / "tied", {"tie_word_embeddings": True}, without)
    weights_after(opened(REFERENCE), tied, tmp_path, [make_batch(8)])
    assert "lm_head.weight" not in load_file(tmp_path / "policy" / "model.safetensors")
    ModelFolder.read(tied).require_same_model(ModelFolder.read(tmp_path / "policy"))
    assert weights_distance(tied, tmp_path / "policy") > 0
    with untied_copy(ModelFolder.read(tied)) as twin:
        heads = [load_file(file).get("lm_head.weight") for file in twin.glob("*.safetensors")]
        (embedding,) = (load_file(file)["model.embed_tokens.weight"] for file in twin.glob("model.safetensors"))
        assert all(torch.equal(head, embedding) for head in heads if head is not None)


def test_tied_output_embeddings_with_values_of_their_own_are_refused(model: Path, tmp_path: Path) -> None:
    copy = changed(model, tmp_path / "tied", {}, "")
    config = json.loads((copy / "config.json").read_text()) | {"tie_word_embeddings": True}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        untied_copy(ModelFolder.read(copy)).__enter__()


def changed(model: Path, folder: Path, config: dict[str, Any], without: str) -> Path:
    """A copy with other settings in config.json and without one tensor; tied output embeddings are the input's."""
    shutil.copytree(model, folder)
    (folder / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | config))
    weights = load_file(model / "model.safetensors")
    if config.get("tie_word_embeddings"):
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights.pop(without, None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


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


def test_a_loss_or_a_gradient_that_is_not_finite_is_one_error(model: Path) -> None:
    learner = opened(REFERENCE)
    learner.load(model, None)
    with pytest.raises(LearnerError, match="The update's loss is nan"):
        learner.update(with_nan(0), RATE)
    huge = make_batch(0)
    with pytest.raises(LearnerError, match="The update's gradient norm is inf"):
        learner.update(replace(huge, advantages=huge.advantages * np.float32(1e30)), RATE)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_deepspeeds_processes(learner: Learner, model: Path) -> None:
    """The last test in this file that asks for `learner`."""
    learner.load(model, None)
    with pytest.raises(LearnerError, match="The update's loss is nan"):
        learner.update(with_nan(0), RATE)
    with pytest.raises(LearnerError, match="This learner has ended"):
        learner.update(make_batch(0), RATE)


def with_nan(seed: int) -> Batch:
    batch = make_batch(seed)
    logprobs = batch.logprobs.copy()
    logprobs[batch.loss_mask] = np.nan
    return replace(batch, logprobs=logprobs)
