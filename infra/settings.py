"""From YAML files and `key=value` overrides to validated configs, with one clear error where that fails."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def load_campaign(path: Path, overrides: Sequence[str] = ()) -> CampaignConfig:
    """Read a campaign's YAML and apply `a.b=value` overrides (values are YAML). Raises ConfigError."""
    return parse(CampaignConfig, apply_overrides(_read_yaml(path), overrides), str(path))


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`["rollout.max_new_tokens=64"]` laid over nested values; intermediate sections are made where missing."""
    merged = _copy(values)
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key.strip():
            raise ConfigError(
                f"--set {override!r} has no key and value", "an override reads key=value", "try --set steps=10"
            )
        section = merged
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            inner = section.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"--set {override!r}: {parent!r} is the value {inner!r}",
                    "only sections have keys under them",
                    f"set {parent} itself",
                )
            section = inner
        section[leaf] = _yaml(text, f"--set {override!r}")
    return merged


def parse(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Validate; every offence stands in the one ConfigError that is raised."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        offences = [_offence(model, offence) for offence in error.errors()]
        raise ConfigError(
            f"{where}: " + "; ".join(offences),
            f"a {model.__name__} takes the keys and ranges documented in torl_core/config.py",
            "correct the file or the --set override named here and run the same command again",
        ) from None


def _offence(model: type[BaseModel], offence: Any) -> str:
    place = ".".join(str(part) for part in offence["loc"])
    if offence["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(offence["loc"][-1]), _keys(model, offence["loc"][:-1]), 1)
        return f"{place} is not a key" + (f", did you mean {close[0]}?" if close else "")
    if offence["type"] == "missing":
        return f"{place} is missing"
    message = offence["msg"].removeprefix("Value error, ")
    return f"{place} is {offence['input']!r}: {message[0].lower()}{message[1:]}" if place else message


def _keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = _yaml(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror})", "a campaign is a YAML file", "see configs/ for examples"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {values!r}", "a campaign is a YAML mapping", "see configs/ for examples")
    return values


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where} is not YAML: {' '.join(str(error).split())}",
            "values are YAML",
            "quote texts with special characters",
        ) from None


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
