import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torl_core.episode_kit import END, IM_END, build_tokenizer
from torl_core.codec import HfCodec, load_codec
from torl_core.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> HfCodec:
    return load_codec(folder)


def test_the_spelling_of_a_special_token_stays_plain_text(codec: HfCodec) -> None:
    text = "a<|endoftext|>b<|im_end|>"
    ids = codec.encode(text)
    assert END not in ids
    assert IM_END not in ids
    assert codec.decode(ids) == text


def test_a_sampled_special_token_appears_as_spelled(codec: HfCodec) -> None:
    assert codec.decode((*codec.encode("x"), END, IM_END)) == "x<|endoftext|><|im_end|>"


def test_decoding_leaves_spaces_alone(codec: HfCodec) -> None:
    text = "  do n't , stop .  "
    assert codec.decode(codec.encode(text)) == text


def test_undecodable_bytes_become_replacement_characters(codec: HfCodec) -> None:
    first_byte_of_two = codec.encode("é")[:1]
    assert codec.decode(first_byte_of_two) == "\ufffd"


def test_lone_surrogates_can_be_encoded(codec: HfCodec) -> None:
    assert codec.decode(codec.encode("a\ud800b")) == "a\ufffdb"


@settings(max_examples=200)
@given(
    text=st.lists(st.one_of(st.sampled_from(["<|endoftext|>", "<|im_end|>", "```output", "\n", "e\u0301"]), st.text()))
)
def test_no_text_becomes_a_special_token_and_all_text_comes_back(codec: HfCodec, text: list[str]) -> None:
    joined = "".join(text)
    ids = codec.encode(joined)
    assert {END, IM_END}.isdisjoint(ids)
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in joined)
    assert codec.decode(ids) == unicodedata.normalize("NFC", expected)


def test_end_tokens_are_those_of_tokenizer_and_generation_config(folder: Path) -> None:
    config = folder / "generation_config.json"
    try:
        assert load_codec(folder).end_token_ids == {END}
        config.write_text(json.dumps({"eos_token_id": [IM_END, END]}))
        assert load_codec(folder).end_token_ids == {END, IM_END}
        config.write_text(json.dumps({"eos_token_id": IM_END}))
        assert load_codec(folder).end_token_ids == {END, IM_END}
        config.write_text("[")
        with pytest.raises(DataError, match=r"generation_config\.json"):
            load_codec(folder)
    finally:
        config.unlink(missing_ok=True)


def test_an_end_token_that_plain_text_can_spell_is_refused() -> None:
    tokenizer = build_tokenizer(extra_plain_tokens=["<stop>"])
    plain_stop = tokenizer.convert_tokens_to_ids("<stop>")
    with pytest.raises(DataError, match=f"control token {plain_stop} "):
        HfCodec(tokenizer, frozenset({plain_stop}))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_codec(tmp_path / "nowhere")


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_a_folder_without_tokenizer_is_refused(tmp_path: Path, model_type: str) -> None:
    # For qwen2, transformers itself would go on with an empty vocabulary.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(DataError, match=r"tokenizer.*Copy tokenizer\.json"):
        load_codec(tmp_path)


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="eos_token"):
        HfCodec(tokenizer)
