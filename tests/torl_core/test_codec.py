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


def metaspace_codec() -> HfCodec:
    """A tokenizer that is not byte-level: it writes a mark in front of the text, so it has more tokens than bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = ["\u2581", "\n", *map(chr, range(33, 127))]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(characters)}, merges=[], unk_token="\u2581"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    return HfCodec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>"))


@settings(max_examples=200)
@given(texts=st.lists(st.text(st.sampled_from("ab 1\u00e9\u0958\ufb1d\U0001d15e\ud800```output\n")), max_size=5))
def test_texts_over_a_limit_are_found_with_their_lengths(codec: HfCodec, texts: list[str]) -> None:
    lengths = [len(codec.encode(text)) for text in texts]
    for limit in range(0, 12):
        assert codec.longer_than(texts, limit) == {i: n for i, n in enumerate(lengths) if n > limit}


def test_the_normal_form_may_have_more_bytes_than_the_text(codec: HfCodec) -> None:
    assert len("\u0958".encode()) == 3
    assert codec.longer_than(["\u0958"], 3) == {0: 6}


def test_texts_that_cannot_be_too_long_are_not_encoded(codec: HfCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    call = type(codec.tokenizer).__call__
    monkeypatch.setattr(
        type(codec.tokenizer), "__call__", lambda self, texts, **how: encoded.extend(texts) or call(self, texts, **how)
    )
    assert codec.longer_than(["ten bytes.", "eleven bytes"], 10) == {1: 12}
    assert encoded == ["eleven bytes"]


def test_a_tokenizer_that_adds_to_the_text_has_no_bound_in_bytes() -> None:
    codec = metaspace_codec()
    assert len(codec.encode("abc")) == 4
    assert codec.longer_than(["abc"], 3) == {0: 4}
