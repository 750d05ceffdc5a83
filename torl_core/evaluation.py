"""What decides an evaluation: two evaluations with one identity ask the same question of the same policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torl_core import grading
from torl_core.config import CampaignConfig, ToolConfig
from torl_core.types import Policy


def evaluation_tool(config: CampaignConfig, benchmark: str) -> ToolConfig:
    """The tool's settings on `benchmark`, which may have a C of its own."""
    calls = config.evaluation.benchmarks[benchmark].max_calls
    return config.tool if calls is None else config.tool.model_copy(update={"max_calls": calls})


def decided_by(config: CampaignConfig, benchmark: str, policy: Policy, problems: str) -> dict[str, Any]:
    """Every fact that decides the evaluation of `policy` on `benchmark`; `problems` is the digest of its problems.

    Where the problems come from is left out: their digest stands for them.
    """
    asked, deciding = config.evaluation.benchmarks[benchmark].deciding(), config.deciding()
    return {
        "benchmark": benchmark,
        "problems": problems,
        "policy": policy.digest,
        "asked": _without(asked, "problems", "max_calls"),
        "tool": evaluation_tool(config, benchmark).deciding(),
        "rollout": _without(deciding["rollout"], "problems_per_step", "samples_per_problem", "temperature"),
        "grader": grading.VERSION,
        **{name: deciding[name] for name in ("seed", "model", "sandbox", "reward")},
    }


def perturbed_by(config: CampaignConfig) -> dict[str, Any]:
    """The settings that change an evaluation's bits, and not what it measures. Those of training have no part in it."""
    return _without(config.perturbing(), "trainer")


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def evaluation_identity(config: CampaignConfig, benchmark: str, policy: Policy, problems: str) -> str:
    """Sixteen hex digits of `decided_by`."""
    facts = json.dumps(decided_by(config, benchmark, policy, problems), sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]
