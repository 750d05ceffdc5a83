"""How results look where nobody watches."""

import pyarrow as pa

from flows.tables import print_table


def test_a_table_in_a_pipe_is_not_cut_at_a_terminals_width(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(pa.table({"a": ["x" * 70], "b": ["y" * 70]}), "table")
    printed = capsys.readouterr().out
    assert "x" * 70 in printed
    assert "y" * 70 in printed
