"""One suite for every Generator. The chain model fixes what is said; the random ones fix what it must have cost."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.torl_core.engines.conftest import (
    A9,
    C3,
    CODEC,
    CONFIG,
    E2,
    END,
    IM_END,
    VOCABULARY,
    WINDOW,
    Folders,
    Handle,
    Run,
    token,
)  # fmt: skip
from torl_core.codec import load_codec
from torl_core.engines import open_engine
from torl_core.engines.scripted import ScriptedEngine
from torl_core.errors import EngineError, TorlError
from torl_core.protocols import Generate, Generated, Sampling
from torl_core.types import TokenIds

STOP = ("```output",)


def expected_logprobs(folder: Path, context: TokenIds, sampled: TokenIds, temperature: float) -> list[float]:
    """One forward pass of transformers over everything, without a cache."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *sampled]])).logits[0, len(context) - 1 : -1]
    logprobs = (logits / (temperature or 1.0)).log_softmax(-1)
    return logprobs[range(len(sampled)), list(sampled)].tolist()


def worst(folder: Path, context: TokenIds, answer: Generated, temperature: float) -> float:
    expected = expected_logprobs(folder, context, answer.token_ids, temperature)
    return max(abs(a - b) for a, b in zip(answer.logprobs, expected, strict=True))


def context(seed: int, length: int) -> TokenIds:
    return tuple(random.Random(seed).choices(range(VOCABULARY), k=length))


def test_the_codec_of_the_suite_is_the_folders(folders: Folders) -> None:
    assert load_codec(folders.chain).end_token_ids == CODEC.end_token_ids == {END, IM_END}


# --- where an answer ends


@pytest.mark.parametrize(
    ("start", "stop", "said"),
    [
        ("A", STOP, [token("```output")]),
        ("B", STOP, [token("```output\n")]),
        ("C", STOP, [token("``"), token("`"), token("out"), token("put")]),
        ("D", STOP, [token("```out"), token("put s")]),
        ("C", ("zzz", "```output", "`ou"), [token("``"), token("`"), token("out")]),
        ("G", ("é",), [C3, A9]),
        ("I", STOP, [E2, token("``"), token("`"), token("out"), token("put")]),
        ("H", ("hhh",), [token("h")] * 3),
    ],
)
def test_a_stop_string_ends_with_the_whole_token_that_completes_it(
    engine: Handle, start: str, stop: tuple[str, ...], said: list[int]
) -> None:
    answer = engine((token("x"), token(start)), 30, stop)
    assert list(answer.token_ids) == said
    assert len(answer.logprobs) == len(said)
    assert answer.finish == "stop"


def test_a_stop_string_that_began_in_the_context_does_not_stop(engine: Handle) -> None:
    answer = engine((token("x"), token("``")), 5, STOP)
    assert list(answer.token_ids) == [token("`"), token("out"), token("put"), token("h"), token("h")]
    assert answer.finish == "length"


def test_a_stop_string_in_the_context_does_not_stop(engine: Handle) -> None:
    answer = engine((token("```output\n"), token("H")), 4, STOP)
    assert list(answer.token_ids) == [token("h")] * 4


@pytest.mark.parametrize(("start", "said"), [("E", [token("e"), END]), ("F", [token("f"), IM_END]), ("q", [END])])
def test_the_end_token_is_part_of_the_answer(engine: Handle, start: str, said: list[int]) -> None:
    """IM_END is named by generation_config.json alone."""
    answer = engine((token(start),), 30, STOP)
    assert (list(answer.token_ids), answer.finish) == (said, "end")


def test_an_end_token_in_the_context_changes_nothing(engine: Handle) -> None:
    answer = engine((END, token("x"), IM_END, END, token("E")), 30, STOP)
    assert list(answer.token_ids) == [token("e"), END]


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_no_more_tokens_than_asked_for(engine: Handle, limit: int) -> None:
    answer = engine((token("H"),), limit, STOP)
    assert (list(answer.token_ids), answer.finish) == ([token("h")] * limit, "length")


def test_the_window_ends_an_answer_too(engine: Handle) -> None:
    answer = engine((token("x"),) * (WINDOW - 4) + (token("H"),), 50)
    assert (list(answer.token_ids), answer.finish) == ([token("h")] * 3, "length")


# --- what is refused, before anything is sampled


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Generate((5,) * WINDOW, 4), f"{WINDOW} tokens"),
        (Generate((5,) * (WINDOW + 300), 4), f"{WINDOW + 300} tokens"),
        (Generate((), 4), "0 tokens"),
        (Generate((5,), 0), "max_new_tokens is 0"),
        (Generate((5, VOCABULARY), 4), f"token id {VOCABULARY}"),
        (Generate((5, -1), 4), "token id -1"),
        (Generate((5,), 4, ("",)), "stop string"),
    ],
)
def test_what_cannot_be_answered_is_refused(engine: Handle, request_: Generate, named: str) -> None:
    with pytest.raises(EngineError, match=named):
        engine.run(engine.engine.generate(request_, Sampling()))
    assert engine((token("H"),), 2).token_ids == (token("h"),) * 2


def test_a_closed_engine_refuses_and_fails_what_waits(run: Run, folders: Folders) -> None:
    config = CONFIG.model_copy(update={"backend": "transformers"})
    engines = [run(open_engine(config, folders.random, 0, "float32", 0)), ScriptedEngine({}, CODEC)]
    for engine in engines:
        run(engine.close())
        with pytest.raises(EngineError, match="closed"):
            run(engine.generate(Generate((5,), 4), Sampling()))
        with pytest.raises(EngineError, match="closed"):
            run(engine.load_policy(folders.random, 1))
        run(engine.close())


# --- what is sampled, and at which price


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("length", [1, 33, 100])
def test_logprobs_are_those_of_the_scaled_distribution(
    model: Handle, folders: Folders, temperature: float, length: int
) -> None:
    prompt = context(length, length)
    answer = model(prompt, 40, temperature=temperature, seed=3)
    assert worst(folders.random, prompt, answer, temperature) < 1e-4


def test_a_continued_context_is_priced_like_a_new_one(model: Handle, folders: Folders) -> None:
    """As after a tool call: prompt, answer, foreign tokens, answer; whole blocks of it may come from a cache."""
    grown = (*context(1, 70), END, IM_END)
    for turn in range(3):
        answer = model(grown, 16, temperature=1.0, seed=turn)
        assert worst(folders.random, grown, answer, 1.0) < 1e-4
        grown = (*grown, *answer.token_ids, *CODEC.encode("\n42\n```\n"))


def test_greedy_takes_the_likeliest(model: Handle, folders: Folders) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folders.random, dtype=torch.float32).eval()
    prompt = context(9, 20)
    for token_id in model(prompt, 10).token_ids:
        assert token_id == int(reference(torch.tensor([prompt])).logits[0, -1].argmax())
        prompt = (*prompt, token_id)


def test_draws_follow_the_logprobs(model: Handle) -> None:
    """The likeliest tokens of 1,500 draws come as often as their log-probability says, within 4.5 deviations."""
    draws = 1500
    prompt = context(4, 12)
    answers = model.all(*((Generate(prompt, 1), Sampling(0.8, seed=seed)) for seed in range(draws)))
    counts = Counter(a.token_ids[0] for a in answers)
    price = {a.token_ids[0]: a.logprobs[0] for a in answers}
    for token_id, count in counts.most_common(5):
        p = math.exp(price[token_id])
        assert abs(count - draws * p) < 4.5 * math.sqrt(draws * p * (1 - p))


def test_a_seed_decides_the_draw_alone_and_in_company(model: Handle) -> None:
    request = Generate(context(5, 30), 20)
    alone = model.all((request, Sampling(1.0, seed=11)))[0]
    company = [(Generate(context(n, 10 + n), 12), Sampling(1.0, seed=n)) for n in range(30)]
    assert model.all((request, Sampling(1.0, seed=11)), *company)[0].token_ids == alone.token_ids
    assert model.all((request, Sampling(1.0, seed=(1 << 62) + 7)))[0].token_ids != alone.token_ids
    unseeded = model.all(*[(request, Sampling(1.0))] * 4)
    assert len({a.token_ids for a in unseeded}) > 1


def test_many_at_once_equal_each_alone(model: Handle) -> None:
    """More requests than the engine decodes together, of all lengths; a long one holds up nobody."""
    requests = [(Generate(context(n, 1 + n % 97), 1 + n % 13), Sampling(0.0)) for n in range(200)]
    together = model.all(*requests)
    assert [len(a.token_ids) for a in together] == [
        next((k for k, i in enumerate(a.token_ids, 1) if i in (END, IM_END)), r.max_new_tokens)
        for (r, _), a in zip(requests, together, strict=True)
    ]
    for n in range(0, 200, 9):
        assert model.all(requests[n])[0].token_ids == together[n].token_ids


def test_top_p_draws_from_the_nucleus_at_full_price(opened: Any, folders: Folders) -> None:
    handle = opened("transformers")
    handle.load(folders.random)
    prompt = context(6, 15)
    answer = handle(prompt, 30, temperature=1.3, top_p=0.5, seed=1)
    assert worst(folders.random, prompt, answer, 1.3) < 1e-4
    everything = handle(prompt, 1, temperature=1e-4, seed=1)
    assert handle(prompt, 1, temperature=1.0, top_p=1e-6, seed=1).token_ids == everything.token_ids


# --- policies


def test_the_engine_stamps_the_version_it_sampled_with(engine: Handle, folders: Folders) -> None:
    engine.load(folders.chain, 7)
    assert engine((token("H"),), 2).policy_version == 7
    engine.load(folders.chain, 8)
    assert engine((token("H"),), 2).policy_version == 8


def test_new_weights_there_and_back(model: Handle, folders: Folders) -> None:
    """The same long context each time: nothing computed with older weights may be used again."""
    prompt = context(7, 120)
    for folder in (folders.random, folders.other, folders.random, folders.chain, folders.other):
        model.load(folder)
        assert worst(folder, prompt, model(prompt, 8, temperature=1.0, seed=1), 1.0) < 1e-4


def test_weights_are_not_changed_under_a_generation(model: Handle, folders: Folders) -> None:
    async def both() -> None:
        going = asyncio.create_task(model.engine.generate(Generate(context(2, 9), 100), Sampling(1.0)))
        await asyncio.sleep(0.02)
        with pytest.raises(EngineError, match="in flight"):
            await model.engine.load_policy(folders.other, 1)
        await going

    model.run(both())


def test_a_folder_that_is_no_policy_leaves_the_old_one(model: Handle, folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(TorlError):
        model.load(tmp_path / "nothing")
    prompt = context(3, 40)
    assert worst(folders.random, prompt, model(prompt, 4), 0.0) < 1e-4


def test_a_cancelled_call_frees_its_place(engine: Handle) -> None:
    async def cancel() -> None:
        going = [
            asyncio.create_task(engine.engine.generate(Generate((token("H"),), 100), Sampling(0.0))) for _ in range(4)
        ]
        await asyncio.sleep(0.01)
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    engine.run(cancel())
    assert engine((token("H"),), 3).token_ids == (token("h"),) * 3


@pytest.mark.parametrize("backend", ["transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def test_tied_embeddings_there_and_back(backend: str, run: Run, folders: Folders) -> None:
    config = CONFIG.model_copy(update={"backend": backend})
    handle = Handle(backend, run, run(open_engine(config, folders.tied, 3, "float32", 0)))
    try:
        prompt = context(8, 50)
        for folder in (folders.tied, folders.tied_other, folders.tied):
            handle.load(folder)
            assert worst(folder, prompt, handle(prompt, 8, temperature=1.0, seed=1), 1.0) < 1e-4
    finally:
        run(handle.engine.close())


def test_a_script_without_an_answer_says_so(run: Run) -> None:
    engine = ScriptedEngine({(5, 6): "7"}, CODEC)
    assert run(engine.generate(Generate((5, 6), 9), Sampling())).token_ids == (token("7"), END)
    with pytest.raises(EngineError, match="no answer"):
        run(engine.generate(Generate((5, 5), 9), Sampling()))


def test_a_scripted_text_cannot_smuggle_in_an_end_token(run: Run) -> None:
    engine = ScriptedEngine({(5,): "<|im_end|>"}, CODEC)
    answer = run(engine.generate(Generate((5,), 99), Sampling()))
    assert answer.token_ids[-1] == END
    assert IM_END not in answer.token_ids
    assert CODEC.decode(answer.token_ids[:-1]) == "<|im_end|>"
