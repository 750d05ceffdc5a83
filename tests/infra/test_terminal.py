import pytest

from infra.terminal import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("over\rwritten\x08", r"over\x0dwritten\x08"),
        ("\x9b31m \x85", r"\x9b31m \x85"),  # one character that many terminals take for ESC [
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("\udce9.parquet", r"\udce9.parquet"),  # a file name that is not UTF-8
        ("a\tb\nc", "a\tb\nc"),
        ("é 数学 👩‍🔬 \\boxed{1}", "é 数学 👩‍🔬 \\boxed{1}"),
    ],
)
def test_what_drives_a_terminal_is_shown_and_all_else_is_as_it_was(text, shown):
    assert harmless(text) == shown
