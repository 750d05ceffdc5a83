"""Sources as files, and what is loaded of them."""

import json

from infra.problems import load_problems
from infra.problems.rows import Rejected
from torl_core.config import ProblemsConfig
from torl_core.types import Problem


def jsonl(path, *lines) -> str:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def load(location=None, **keys) -> tuple[list[Problem], list[Rejected]]:
    """Problems and rejected rows of a source or, with `sources`, of several."""
    loaded = load_problems(ProblemsConfig(location=location and str(location), **keys))
    return list(loaded.problems), list(loaded.rejected)


def refused(location, **keys) -> list[tuple[int, str]]:
    """(line, reason) of the rejected rows."""
    return [(row.line, row.reason) for row in load(location, skip_rejected=True, **keys)[1]]
