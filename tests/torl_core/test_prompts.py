import pytest

from tests.torl_core.episode_kit import END, build_tokenizer
from torl_core.codec import HfCodec
from torl_core.errors import ConfigError
from torl_core.prompts import TEMPLATES, make_prompt
from torl_core.types import Problem


@pytest.fixture(scope="module")
def codec() -> HfCodec:
    return HfCodec(build_tokenizer())


def problem(statement: str) -> Problem:
    return Problem("p1", statement, "2", "tests")


def test_torl_template_reads_as_in_the_paper(codec: HfCodec) -> None:
    prompt = make_prompt(problem("What is 1 + 1?"), "torl", codec)
    assert codec.decode(prompt.token_ids) == (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it.\n"
        "User: Please integrate natural language reasoning with programs to solve the problem above, and put your "
        "final answer within \\boxed{}.\n"
        "What is 1 + 1?\n"
        "Assistant:"
    )
    assert (prompt.problem_id, prompt.template) == ("p1", "torl")


def test_short_template(codec: HfCodec) -> None:
    assert codec.decode(make_prompt(problem("1 + 1?"), "short", codec).token_ids) == "User: 1 + 1?\nAssistant:"


def test_a_statement_cannot_end_the_text_or_open_another_slot(codec: HfCodec) -> None:
    statement = "What does <|endoftext|> mean in <question>?"
    prompt = make_prompt(problem(statement), "short", codec)
    assert END not in prompt.token_ids
    assert codec.decode(prompt.token_ids) == f"User: {statement}\nAssistant:"


def test_every_template_has_one_slot() -> None:
    assert {text.count("<question>") for text in TEMPLATES.values()} == {1}


def test_an_unknown_template_is_named_with_the_known_ones(codec: HfCodec) -> None:
    with pytest.raises(ConfigError, match=r"'trol'.*torl, short"):
        make_prompt(problem("?"), "trol", codec)
