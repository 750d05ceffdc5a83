"""Only what the model wrote outside code and output blocks is graded, and only the last box."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.grading import last_boxed, prose, prose_of_segments


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{5} then \boxed{6}", "6"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        ("\\boxed\n{7}", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{a \boxed{b} c}", r"a \boxed{b} c"),
        (r"$x_{1}$ and { unclosed \boxed{3}", "3"),
        (r"} stray \boxed{3} }", "3"),
        (r"\boxed{1} \boxed{2", None),
        (r"\boxed{1 \boxed{2}", "2"),
        (r"\boxed{1} \boxed 2", None),
        (r"\boxed{1} \boxed", None),
        (r"no box: 5", None),
        ("", None),
        (r"line \\boxed{5}", None),
        (r"line \\\boxed{5}", "5"),
        (r"\boxedx{5}", None),
        (r"\boxed{5\}", None),
        (r"\boxed{5\\}", r"5\\"),
    ],
)
def test_last_boxed(text: str, box: str | None) -> None:
    assert last_boxed(text) == box


def test_last_boxed_takes_linear_time() -> None:
    start = time.perf_counter()
    assert last_boxed("\\boxed{" * 200_000) is None
    assert last_boxed("\\boxed{" * 100_000 + "}" * 100_000) is not None
    assert time.perf_counter() - start < 5


CODE = "```python\nprint(1)\n```\n"
OUTPUT = "```output\n1\n```\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        (f"before\n{CODE}{OUTPUT}after", "before after"),
        ("before\n```python\nx\n```output\n1\n```\nafter", "before after"),
        ("before\n```python\nunclosed \\boxed{1}", "before"),
        ("before ```python\nx\n```\nafter", "before after"),
        ("before ```inline \\boxed{1}``` after", "before after"),
        ("before\n  ```\nx\n  ```\nafter", "before after"),
        ("before\n```python\ns = '```'\ny\n```\nafter", "before after"),
        ("before\n```python\nx\n``` so the answer", "before so the answer"),
        ("before\n```\n", "before"),
        ("before\n~~~python\nx\n~~~\nafter", "before after"),
        ("before\n~~~\nx\n~~~~~\nafter", "before after"),
        ("before\n~~~python\nunclosed \\boxed{1}", "before"),
        ("before\n~~~~\n~~~\nx\n~~~\n~~~~\nafter", "before after"),
        ("before\n~~~python\nx\n~~~output\n1\n~~~\nafter", "before after"),
        ("before\n~~~\n```\nx\n~~~\nafter", "before after"),
        ("before\n```\n~~~\nx\n```\nafter", "before after"),
        ("before\n~~~ the answer is\nafter", "before ~~~ the answer is after"),
        ("before ~~~ middle\nafter", "before ~~~ middle after"),
        ("before\n````\n```\nx\n```\n````\nafter", "before after"),
        ("before\n````markdown\n```python\nx\n```\n```output\n1\n```\n````\nafter", "before after"),
        ("before\n````\n```So it is not x\n````\nafter", "before after"),
        ("before\n```\nx\n`````\nafter", "before after"),
        ("before ````inline ```x``` ```` after", "before after"),
        ("1. before\n   ```python\n   x\n   ```\n2. after", "1. before 2. after"),
        ("- before\n\n  ~~~python\n  x\n  ~~~\n- after", "- before - after"),
        ("1. ~~~python\n   x\n   ~~~\nafter", "after"),
        ("> before\n> ```python\n> x\n> ```\n> after", "> before > > after"),
        ("before\r\n```python\r\nx\r\n```\r\nafter", "before after"),
        ("before\n```\nx\n``` so `y` ```z``` is\nafter", "before so `y` is after"),
        ("before\n```\nx\n``` then ```python\ny\n```\nafter", "before then after"),
    ],
)
def test_prose(text: str, kept: str) -> None:
    assert prose(text).split() == kept.split()


def test_fault_10_boxes_in_code_and_output_are_not_graded() -> None:
    assert last_boxed(prose("```python\nprint(r'\\boxed{4}')\n```\n```output\n\\boxed{4}\n```\n")) is None
    assert (
        last_boxed(prose("I get \\boxed{3}.\n```python\nprint(r'\\boxed{4}')\n```\n```output\n\\boxed{4}\n```\n"))
        == "3"
    )
    assert last_boxed(prose("```output\n\\boxed{4}")) is None


def test_output_that_closes_its_own_fence_is_not_graded() -> None:
    """The tool printed a fence and a box; the tool's segment is not among the model's, so neither can count."""
    first = "I compute.\n```python\nprint('```\\n\\\\boxed{4}')\n```\n```output\n"
    second = "So it is unclear."
    assert last_boxed(prose_of_segments([first, second])) is None
    assert last_boxed(prose_of_segments([first, "So \\boxed{3}."])) == "3"


PIECES = ["```", "```python", "```output", "````", "~~~", "~~~python", "~~~~", "  ```", "\\boxed{1}", "text", "{", "\\"]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_prose_never_adds_and_never_keeps_a_fence(pieces: list[str]) -> None:
    cleaned = prose("\n".join(pieces))
    assert "```" not in cleaned
    assert "~~~" not in cleaned
    assert [line for line in cleaned.split("\n") if line.strip()] == [
        line for line in cleaned.split("\n") if line.strip() in pieces
    ]


@given(st.sampled_from("`~"), st.integers(3, 6), st.integers(0, 3), st.lists(st.sampled_from(PIECES), max_size=8))
def test_a_block_hides_every_fence_that_is_shorter_or_of_the_other_character(
    character: str, length: int, more: int, pieces: list[str]
) -> None:
    hidden = [piece for piece in pieces if not piece.strip().startswith(character * length)]
    block = [character * length, *hidden, character * (length + more)]
    assert prose("\n".join(["before", *block, "after"])).split() == ["before", "after"]


@pytest.mark.parametrize(
    "line", ["```" * 100_000, "````" + "```x" * 100_000, "~~~" + " " * 300_000 + "x x", "> " * 200_000, "~" * 300_000]
)
def test_prose_takes_linear_time(line: str) -> None:
    start = time.perf_counter()
    prose(f"{line}\n" * 3)
    assert time.perf_counter() - start < 2
