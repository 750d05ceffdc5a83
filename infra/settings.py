"""From YAML files and `key=value` overrides to validated configs, with one clear error where that fails."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from infra.yaml_reader import Document, Place, read_yaml
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

_LARGEST_BYTES = 1 << 20


def load_campaign(path: Path, overrides: Sequence[str] = ()) -> CampaignConfig:
    """Read a campaign's YAML and apply `a.b=value` overrides (values are YAML). Raises ConfigError."""
    document = _read_file(path)
    return parse(CampaignConfig, apply_overrides(document.value, overrides), str(path), document.lines, overrides)


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`["rollout.max_new_tokens=64"]` laid over nested values; intermediate sections are made where missing."""
    merged = _copy(values)
    for override in overrides:
        (*parents, leaf), text = _key_of(override)
        section = merged
        for parent in parents:
            inner = section.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"--set {override!r}: {parent!r} is the value {reprlib.repr(inner)}",
                    "only sections have keys under them",
                    f"set {parent} itself",
                )
            section = inner
        section[leaf] = read_yaml(text, f"--set {override!r}").value
    return merged


def parse(
    model: type[M],
    values: Mapping[str, Any],
    where: str,
    lines: Mapping[Place, int] | None = None,
    overrides: Sequence[str] = (),
) -> M:
    """Validate; every offence stands in the one ConfigError that is raised, with the line or override it comes from."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        offences = [offence(model, one) + _origin(one["loc"], lines or {}, overrides) for one in error.errors()]
        raise ConfigError(
            f"{where}: " + "; ".join(offences),
            f"a {model.__name__} takes the keys and ranges documented in torl_core/config.py",
            "correct the file or the --set override named here and run the same command again",
        ) from None


def _key_of(override: str) -> tuple[list[str], str]:
    """The dotted key of `key=value`, in parts, and the text of the value."""
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(
            f"--set {override!r} has no key and value", "an override reads key=value", "try --set steps=10"
        )
    return key.strip().split("."), text


def _origin(loc: Place, lines: Mapping[Place, int], overrides: Sequence[str]) -> str:
    """In brackets, the last override that gave the value at `loc`, else the line of it or of the section it is in."""
    for override in reversed(overrides):
        key = tuple(_key_of(override)[0])
        if loc[: len(key)] == key:
            return f" (--set {override!r})"
    for length in range(len(loc), 0, -1):
        if line := lines.get(loc[:length]):
            return f" (line {line})"
    return ""


def offence(model: type[BaseModel], error: Any) -> str:
    """One of pydantic's errors about values for `model`, in words: which key, which value, which rule."""
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), _keys(model, error["loc"][:-1]), 1)
        return f"{place} is not a key" + (f", did you mean {close[0]}?" if close else "")
    if error["type"] == "missing":
        return f"{place} is missing"
    message = error["msg"].removeprefix("Value error, ")
    hint = ", so put it in quotes" if error["type"] == "string_type" else ""
    return f"{place} is {reprlib.repr(error['input'])}: {message[0].lower()}{message[1:]}{hint}" if place else message


def _keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _read_file(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise _no_campaign(f"{path} cannot be read ({error.strerror})", "a campaign is a YAML file") from None
    if len(data) > _LARGEST_BYTES:
        raise _no_campaign(f"{path} has more than {_LARGEST_BYTES >> 20} MiB", "a campaign is a short YAML file")
    document = read_yaml(_decoded(data, path), str(path))
    if not isinstance(document.value, dict):
        raise _no_campaign(f"{path} holds {reprlib.repr(document.value)}", "a campaign is a YAML mapping")
    return document


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"{path}, line {line}: byte {error.start} is {data[error.start]:#04x}, which is not UTF-8"
        raise ConfigError(what, "A config is UTF-8 text", "Save the file as UTF-8") from None


def _no_campaign(what: str, rule: str) -> ConfigError:
    return ConfigError(what, rule, "see configs/ for examples")


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
