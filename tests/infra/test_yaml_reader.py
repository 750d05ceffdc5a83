"""YAML 1.2's core schema, and one line number for every mistake."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.yaml_reader import read_yaml
from torl_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-7", -7), ("0o17", 15), ("0x1F", 31), ("9223372036854775808", 2**63), ("5.", 5.0), ("-.5", -0.5),
        ("1e-3", 0.001), (".inf", math.inf), ("-.INF", -math.inf), ("true", True), ("FALSE", False), ("~", None),
        ("", None), ("Null", None), ("on", "on"), ("yes", "yes"), ("off", "off"), ("1:30", "1:30"), ("1_000", "1_000"),
        ("0b1", "0b1"), ("2024-01-01", "2024-01-01"), ("2024-13-45", "2024-13-45"), ("'010'", "010"), ('"on"', "on"),
        ("!!str 5", "5"), ("!!int '5'", 5), ("=", "="), ("[1, [a, {b: 2}]]", [1, ["a", {"b": 2}]]),
        ("&x {a: 1}", {"a": 1}), ("[&x [1], *x]", [[1], [1]]), ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)  # fmt: skip
def test_values_have_the_types_of_yaml_1_2(text, value):
    assert read_yaml(text, "c.yaml").value == value
    assert type(read_yaml(text, "c.yaml").value) is type(value)


def test_not_a_number_is_a_float():
    assert math.isnan(read_yaml(".nan", "c.yaml").value)


@pytest.mark.parametrize("text", ["a: 1\nb:\n  c: [2,\n    3]\n", "a: 1\r\nb:\r\n  c: [2,\r\n    3]\r\n"])
def test_every_value_has_its_line(text):
    document = read_yaml(text, "c.yaml")
    assert document.value == {"a": 1, "b": {"c": [2, 3]}}
    assert document.lines == {(): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 3, ("b", "c", 1): 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: a is given twice, first in line 1"),
        ("t:\n  m: 1\n  n: 2\n  m: 1\n", r"line 4: t\.m is given twice, first in line 2"),
        ("a: " + "[" * 3000, r"line 1: values are nested more than 32 deep"),
        ("a: 1\nb: &x [*x]\n", r"line 2: an alias refers to what it is part of"),
        ("".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '1'] * 9)}]\n" for i in range(9)),
         r"there are more than 100000 values"),
        ("a: 1\n7: 2\n", r"line 2: the key 7 is not a text\. .*quotes"),
        ("a: 1\nnull: 2\n", r"line 2: the key None is not a text"),
        ("a: 1\n? [x]\n: 2\n", r"line 2: the key <class 'list'> is not a text"),
        ("a: 1\nb: !!python/object:os.system x\n", r"line 2: '!!python/object:os\.system' is a tag"),
        ("a: !mine [1]\n", r"line 1: '!mine' is a tag"),
        ("a: !!binary aGk=\n", r"line 1: '!!binary' is a tag"),
        ("a: &d {b: 1}\nc:\n  <<: *d\n", r"line 3: '<<' is a merge key"),
        ("a: 1\n---\nb: 2\n", r"line 2: this is not YAML: expected a single document"),
        ("a:\n\tb: 1\n", r"line 2: this is not YAML: .*'\\t'"),
        ("a: 1\nb: 'open\n", r"line 3: this is not YAML: while scanning a quoted scalar"),
        ("a: 1\nb: {c: 1\n", r"line 3: this is not YAML: while parsing a flow mapping"),
        ("a: 1\nb: *gone\n", r"line 2: this is not YAML: found undefined alias"),
        ("a: 1\nb: \x00\n", r"line 2: this is not YAML: unacceptable character"),
        ("a: 1\nb: \x1b[31m\n", r"line 2: this is not YAML: unacceptable character"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_its_line(text, said):
    with pytest.raises(ConfigError, match=rf"(?s)^c\.yaml, {said}" if said.startswith("line") else said):
        read_yaml(text, "c.yaml")


@given(st.text())
def test_any_text_is_a_value_or_one_clear_error(text):
    with contextlib.suppress(ConfigError):
        read_yaml(text, "c.yaml")
