"""YAML 1.2 with the line of every value. ruamel.yaml parses; plain texts get their types from YAML 1.2's core schema.

So `on`, `yes`, `1:30` and `2024-01-01` are texts, `010` is ten and `1e-3` is a number. Whatever has no place in a
config is refused with its line: a key given twice, a key that is no text, a tag, a second document, a merge key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from torl_core.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""

_DEEPEST = 32
_MOST_VALUES = 100_000
"""Aliases of aliases can make billions out of a few lines."""
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("null", "bool", "int", "float", "timestamp", "value")}
"""What ruamel.yaml takes plain texts for. It knows more types than the core schema has."""


@dataclass(frozen=True, slots=True)
class Document:
    value: Any
    lines: Mapping[Place, int]
    """From 1. Of a mapping's entry, the line of its key."""


def read_yaml(text: str, where: str) -> Document:
    """Read one document; an empty one is None. Raises ConfigError, naming `where` and the line."""
    reader = YAML(typ="safe", pure=True)
    try:
        _check_depth(reader, text, where)
        node = reader.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refused(where, mark.line + 1 if mark else 1, f"this is not YAML: {said}", _QUOTE) from None
    except YAMLError as error:  # a character that no YAML file may have
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise _refused(where, line, f"this is not YAML: {str(error).splitlines()[0]}", "Remove the character") from None
    lines: dict[Place, int] = {}
    return Document(None if node is None else _value(node, (), lines, where), lines)


_QUOTE = "Correct the line; texts with special characters stand in quotes"


def _check_depth(reader: YAML, text: str, where: str) -> None:
    """ruamel.yaml's parser takes any depth, but what builds values from it calls itself."""
    depth = 0
    for event in reader.parse(text):
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        if depth > _DEEPEST:
            line = event.start_mark.line + 1
            raise _refused(where, line, f"values are nested more than {_DEEPEST} deep", "Close brackets and quotes")


def _value(node: Node, place: Place, lines: dict[Place, int], where: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if len(place) > _DEEPEST:
        raise _refused(where, line, "an alias refers to what it is part of", "Write the value out")
    if len(lines) > _MOST_VALUES:
        raise _refused(where, line, f"there are more than {_MOST_VALUES} values", "Use fewer aliases")
    if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
        return _mapping(node, place, lines, where)
    if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
        return [_value(inner, (*place, i), lines, where) for i, inner in enumerate(node.value)]
    if node.tag == f"{_TAG}str":
        return node.value
    if node.tag in _PLAIN_TAGS:
        return _core(node.value)
    raise _refused(
        where, line, f"{str(node.tag).replace(_TAG, '!!')!r} is a tag", "Remove the tag: values have YAML's types"
    )


def _mapping(node: MappingNode, place: Place, lines: dict[Place, int], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == f"{_TAG}merge":
            raise _refused(where, line, "'<<' is a merge key, which YAML 1.2 does not have", "Write the keys out")
        key = key_node.value if key_node.tag == f"{_TAG}str" else _core_or_node(key_node)
        if not isinstance(key, str):
            raise _refused(where, line, f"the key {key!r} is not a text", "Put the key in quotes")
        inner = (*place, key)
        if key in found:
            name = ".".join(map(str, inner))
            raise _refused(where, line, f"{name} is given twice, first in line {lines[inner]}", "Remove one of them")
        lines[inner] = line
        found[key] = _value(value_node, inner, lines, where)
    return found


def _core_or_node(node: Node) -> Any:
    return _core(node.value) if node.tag in _PLAIN_TAGS else type(node.value)


def _core(text: str) -> Any:
    """The value of a plain text, by YAML 1.2's core schema (specification, section 10.3.2)."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text in ("true", "True", "TRUE")
    if re.fullmatch(r"[-+]?[0-9]{1,4000}", text):  # more digits than Python reads are a text
        return int(text)
    if re.fullmatch(r"0o[0-7]+|0x[0-9a-fA-F]+", text):
        return int(text, 0)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)", text):
        return -math.inf if text[0] == "-" else math.inf
    return math.nan if text in (".nan", ".NaN", ".NAN") else text


def _refused(where: str, line: int, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"{where}, line {line}: {what}", "A config is one YAML 1.2 document", remedy)
