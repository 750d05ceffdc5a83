import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.errors import DataError
from torl_core.packing import deal, deal_rows, has_signal, micro_batches, pack
from torl_core.types import Batch, Sample


def sample(name: str, length: int, advantage: float = 1.0) -> Sample:
    """Every token and log-probability of it is recognisable."""
    number = int(name) if name.isdigit() else 0
    return Sample(
        name,
        np.arange(length) + 1000 * number,
        np.arange(length) % 3 != 0,
        np.where(np.arange(length) % 3 != 0, -np.arange(length) - 0.5, 0).astype(np.float32),
        advantage,
    )


lengths = st.lists(st.integers(1, 20), min_size=1, max_size=30)


@given(lengths)
def test_every_sample_lies_whole_in_one_row_and_nothing_else_does(sizes: list[int]) -> None:
    samples = [sample(str(i), n, float(i)) for i, n in enumerate(sizes)]
    batch = pack(samples, row_tokens=20)
    found = []
    for b in range(len(batch.tokens)):
        segments = batch.segments[b]
        numbers = [n for n in np.unique(segments) if n]
        assert numbers == list(range(1, len(numbers) + 1))
        for number in numbers:
            (places,) = np.nonzero(segments == number)
            assert (np.diff(places) == 1).all(), "contiguous"
            i = int(batch.tokens[b, places[0]]) // 1000
            expected = samples[i]
            assert (batch.tokens[b, places] == expected.token_ids).all()
            assert (batch.positions[b, places] == np.arange(len(places))).all()
            assert (batch.loss_mask[b, places] == expected.loss_mask).all()
            assert (batch.logprobs[b, places] == expected.logprobs).all()
            assert (batch.advantages[b, places] == expected.advantage).all()
            found.append(i)
        assert not batch.loss_mask[b, segments == 0].any()
    assert sorted(found) == list(range(len(samples)))
    assert batch.loss_denominator == sum(int(s.loss_mask[1:].sum()) for s in samples)


def test_longest_first_into_the_first_row_with_room() -> None:
    batch = pack([sample("1", 3), sample("2", 6), sample("3", 4), sample("4", 2)], row_tokens=8)
    # 6 opens row 0, 4 row 1, 3 fits behind the 4, 2 behind the 6
    assert batch.tokens[:, 0].tolist() == [2000, 3000]
    assert batch.segments.tolist() == [[1] * 6 + [2] * 2, [1] * 4 + [2] * 3 + [0]]


def test_a_sample_longer_than_a_row_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="Sample 7 has 9 tokens and a row holds 8"):
        pack([sample("7", 9)], row_tokens=8)


@given(lengths, st.integers(1, 5), st.integers(1, 4))
def test_ranks_and_micro_batches_hold_every_trained_token_once(sizes: list[int], rows: int, ranks: int) -> None:
    batch = pack([sample(str(i), n) for i, n in enumerate(sizes)], row_tokens=20)

    def tokens(part: Batch) -> list[int]:
        return part.tokens[part.loss_mask].tolist()

    dealt = deal_rows(batch, ranks)
    assert len({len(part.tokens) for part in dealt}) == 1, "every rank has equally many rows"
    cut = [piece for part in dealt for piece in micro_batches(part, rows)]
    assert sorted(t for piece in cut for t in tokens(piece)) == sorted(tokens(batch))
    assert {piece.loss_denominator for piece in cut} <= {batch.loss_denominator, 0} | {batch.loss_denominator}


def test_whole_groups_are_dealt_in_turn() -> None:
    samples = [sample(str(i), 2) for i in range(6)]
    hands = deal(samples, ["a", "a", "b", "b", "c", "c"], updates=2)
    assert [[s.trajectory_id for s in hand] for hand in hands] == [["0", "1", "4", "5"], ["2", "3"]]
    assert len(deal(samples[:2], ["a", "a"], updates=4)) == 1, "a mini-batch is never empty"


def test_an_update_has_signal_where_a_trained_token_has_an_advantage() -> None:
    assert has_signal(pack([sample("1", 4, 0.0), sample("2", 2, -1e-9)], row_tokens=8))
    assert not has_signal(pack([sample("1", 4, 0.0), sample("2", 4, -0.0)], row_tokens=8)), "every advantage is zero"
    first_token = Sample("3", np.arange(3), np.array([True, False, False]), np.zeros(3, np.float32), 1.0)
    assert not has_signal(pack([first_token, sample("1", 4, 0.0)], row_tokens=8)), "a first token is never trained"
    assert not has_signal(pack([], row_tokens=8))
