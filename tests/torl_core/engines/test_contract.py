"""How an answer ends, asked after every token as an engine does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torl_core.episode_kit import CODEC, END
from torl_core.engines.contract import contains_any, finish_of
from torl_core.protocols import Codec
from torl_core.types import Finish, TokenIds

STOP = ("```output",)


class CountingCodec:
    """Counts the tokens that are decoded."""

    end_token_ids = CODEC.end_token_ids

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, text: str) -> TokenIds:
        return CODEC.encode(text)

    def decode(self, token_ids: TokenIds) -> str:
        self.decoded += len(token_ids)
        return CODEC.decode(token_ids)


def first_finish(codec: Codec, ids: TokenIds, stop: tuple[str, ...]) -> tuple[int, Finish | None]:
    """(tokens, finish) of the first prefix that ends the answer."""
    for n in range(1, len(ids) + 1):
        if finish := finish_of(codec, ids[:n], stop, limit=len(ids)):
            return n, finish
    raise AssertionError("the limit always ends an answer")


@settings(max_examples=300)
@given(
    texts=st.lists(
        st.sampled_from(
            ["`", "``", "```", "out", "put", "output", "```output", "output s", "é", "漢😀", "\n", "x" * 30]
        ),
        min_size=1,
        max_size=30,
    ),
    stop=st.sampled_from([STOP, ("é",), ("zz", "`ou"), ("put s",), ("```output", "漢😀")]),
)
def test_the_first_prefix_with_a_stop_string_ends_an_answer(texts: list[str], stop: tuple[str, ...]) -> None:
    ids = tuple(i for text in texts for i in CODEC.encode(text))
    wanted = next((n for n in range(1, len(ids) + 1) if contains_any(CODEC, ids[:n], stop)), None)
    assert first_finish(CODEC, ids, stop) == ((len(ids), "length") if wanted is None else (wanted, "stop"))


def test_looking_for_stop_strings_is_linear_in_the_answer() -> None:
    def decoded(tokens: int) -> int:
        codec = CountingCodec()
        assert first_finish(codec, (*CODEC.encode("x" * (tokens - 1)), END), STOP) == (tokens, "end")
        return codec.decoded

    assert decoded(2000) <= 2.1 * decoded(1000)
