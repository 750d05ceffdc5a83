"""How results look on stdout."""

import json

import pyarrow as pa
import pytest

from flows.tables import print_answer


def test_a_table_in_a_pipe_is_not_cut_at_a_terminals_width(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_answer(pa.table({"a": ["x" * 70], "b": ["y" * 70]}), "table")
    printed = capsys.readouterr().out
    assert "x" * 70 in printed
    assert "y" * 70 in printed


def test_a_table_shows_text_as_it_is(capsys):
    print_answer(pa.table({"[/x] :smile:": ["[bold]\x1b[31m :smile:", None]}), "table")
    printed = capsys.readouterr().out
    assert "[/x] :smile:" in printed
    assert r"[bold]\x1b[31m :smile:" in printed


def test_csv_and_json_are_exact(capsys):
    print_answer(pa.table({"[/x]": ["\x1b[31m", None, ""], "n": [1, 2, None]}), "csv")
    assert capsys.readouterr().out == '"[/x]","n"\n"\x1b[31m",1\n,2\n"",\n'
    print_answer(pa.table({"row": ['{"a":"[/x]"}', '{"a":null}']}), "json")
    assert json.loads(capsys.readouterr().out) == [{"a": "[/x]"}, {"a": None}]


@pytest.mark.parametrize(("form", "printed"), [("csv", '"a"\n'), ("json", "[]\n")])
def test_an_answer_without_rows(form, printed, capsys):
    print_answer(pa.table({"a": pa.array([], pa.string())}), form)
    assert capsys.readouterr().out == printed
