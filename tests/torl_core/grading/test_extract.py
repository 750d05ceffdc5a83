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


@given(st.lists(st.sampled_from(["```", "```python", "```output", "\\boxed{1}", "text", "{", "}", "\\"]), max_size=12))
def test_prose_never_adds_and_never_keeps_a_fence(pieces: list[str]) -> None:
    cleaned = prose("\n".join(pieces))
    assert "```" not in cleaned
    assert [line for line in cleaned.split("\n") if line.strip()] == [
        line for line in cleaned.split("\n") if line.strip() in pieces
    ]
