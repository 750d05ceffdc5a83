"""The demo's world: problems whose answers are right, a tokenizer that survives a reload, a corpus that is true."""

import re
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from torl_core.codec import HfCodec, load_codec
from torl_core.errors import DataError
from torl_core.toy.base import build_base, encode, new_model
from torl_core.toy.corpus import document
from torl_core.toy.problems import KINDS, toy_problems
from torl_core.toy.tokenizer import build_tokenizer

CODEC = HfCodec(build_tokenizer())


def test_there_are_nine_kinds_and_the_splits_share_no_problem() -> None:
    train, test = toy_problems("train"), toy_problems("test")
    assert len(KINDS) == 9
    assert {p.metadata["kind"] for p in test} == {kind.name for kind in KINDS}
    asked = [{(p.metadata["kind"], tuple(re.findall(r"\d+", p.statement))) for p in split} for split in (train, test)]
    assert not asked[0] & asked[1]
    assert len({p.problem_id for p in train + test}) == len(train) + len(test)


def test_problems_are_the_same_in_every_process() -> None:
    code = "from torl_core.toy.problems import toy_problems as t; print([p.statement for p in t('test', 20)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {(str([p.statement for p in toy_problems("test", 20)]) + "\n").encode()}


ORACLES = {
    "sum": lambda a, b, *rest: a + b + sum(rest),
    "times": lambda a, b: a * b,
    "product": lambda a, b, c: a * b * c,
    "lcm": lambda a, b: next(m for m in range(a, a * b + 1, a) if m % b == 0),
    "power_mod": lambda a, b, m: a**b % m,
}


@pytest.mark.parametrize("kind", ORACLES)
def test_answers_agree_with_an_independent_computation(kind: str) -> None:
    problems = [p for p in toy_problems("test") if p.metadata["kind"] == kind]
    assert len(problems) > 40
    for problem in problems:
        operands = [int(n) for n in re.findall(r"\d+", problem.statement)]
        assert problem.answer == str(ORACLES[kind](*operands)), problem


@pytest.mark.parametrize(("split", "n"), [("dev", 1), ("test", 10_000)])
def test_what_does_not_exist_is_refused(split: str, n: int) -> None:
    with pytest.raises(DataError):
        toy_problems(split, n)


@given(st.text())
def test_any_text_comes_back_and_never_becomes_a_control_token(text: str) -> None:
    ids = CODEC.encode(text + "<|endoftext|>")
    assert CODEC.decode(ids) == unicodedata.normalize("NFC", text) + "<|endoftext|>"
    assert not CODEC.end_token_ids & set(ids)


def test_the_tokenizer_survives_saving_beside_a_qwen2_config(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    new_model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reloaded = load_codec(tmp_path)
    for index in range(200):
        made = document(7, index)
        for text in (made.prompt, *(text for _, text in made.segments)):
            assert reloaded.encode(text) == CODEC.encode(text)


def test_the_corpus_shows_what_its_code_really_prints() -> None:
    """Snippets are run again in a process of their own; the sandbox's own rule turns errors into their last line."""
    checked = 0
    for index in range(400):
        segments = document(11, index).segments
        for (author, text), (_, shown) in pairwise(segments):
            if author != "model" or not shown.startswith("\n") or "```python" not in text:
                continue
            code = text.rpartition("```python\n")[2].partition("\n```")[0]
            result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            body = shown.removeprefix("\n").removesuffix("\n```\n")
            if result.returncode:
                assert result.stderr.strip().splitlines()[-1].split(":")[0] == body.split(":")[0], (code, body)
            elif result.stdout:
                assert body == result.stdout.rstrip("\n"), code
            else:
                assert "printed nothing" in body
            checked += 1
        if checked >= 40:
            break
    assert checked >= 40


def test_only_what_the_model_writes_is_trained_and_it_ends_itself() -> None:
    for index in range(50):
        made = document(3, index)
        (sample,) = encode([made], build_tokenizer())
        ids, mask = sample.token_ids.tolist(), sample.loss_mask.tolist()
        prompt = CODEC.encode(made.prompt)
        assert tuple(ids[: len(prompt)]) == prompt
        assert not any(mask[: len(prompt)])
        expected: list[int] = []
        for author, text in made.segments:
            if author == "model":
                expected += CODEC.encode(text)
        trained = [i for i, m in zip(ids, mask, strict=True) if m]
        assert trained[: len(expected)] == expected
        assert trained[len(expected) :] == sorted(CODEC.end_token_ids)


@pytest.mark.slow
def test_a_base_is_a_hugging_face_folder_that_appears_whole(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / ".base-unfinished").mkdir()  # as a build leaves it that is killed while it writes
    (tmp_path / ".base-unfinished" / "rotten.safetensors").write_bytes(b"half")
    build_base(tmp_path / "base", seed=1, progress=lambda done, total, _: seen.append((done, total)), steps=5)
    assert seen[-1] == (5, 5)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").eos_token_id in CODEC.end_token_ids
    assert not model.config.tie_word_embeddings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]
    made = (tmp_path / "made", tmp_path / "made" / "file")
    made[0].mkdir()
    made[1].touch()
    folder, file = (path.stat().st_mode for path in made)
    assert (tmp_path / "base").stat().st_mode == folder, "as the umask says"
    assert {path.stat().st_mode for path in (tmp_path / "base").iterdir()} == {file}
    before = (tmp_path / "base" / "model.safetensors").read_bytes()
    build_base(tmp_path / "base", seed=2, steps=5)
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == before, "an existing one is left as it is"
