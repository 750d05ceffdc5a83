"""The demo over several seeds: its table, its wall time, and the share of a step outside generation and training.

    python tests/benchmarks/demo.py [--seeds 0,1,2,3,4] [--out DIR]

Runs `torl demo` as a user would, from nothing, one seed after another; prints two markdown tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any

from infra.analytics import query
from infra.storage import Store

_SHARES = """
SELECT p.campaign, avg(s.step_time_s) AS step_s,
       sum(seconds) FILTER (phase NOT IN ('rollout', 'train')) / sum(seconds) AS outside,
       sum(seconds) FILTER (phase = 'overhead') / count(DISTINCT p.step) AS overhead_s
FROM phases AS p JOIN steps AS s USING (campaign, step)
WHERE step > 1 GROUP BY p.campaign ORDER BY p.campaign DESC
"""
"""The first step starts the learner; it is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = {int(seed): run(int(seed), given.out or Path(scratch)) for seed in given.seeds.split(",")}
    print_accuracy(runs)
    print_times(runs)


def run(seed: int, out: Path) -> dict[str, Any]:
    started = perf_counter()
    command = [Path(sys.executable).parent / "torl", "demo", "--json", "--seed", str(seed), "--out", out]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result | {
        "wall_s": perf_counter() - started,
        "times": query(Store.open(result["store"]), _SHARES).to_pylist(),
    }


def print_accuracy(runs: dict[int, dict[str, Any]]) -> None:
    figures: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for seed, result in runs.items():
        lines = [line for line in result["lines"] if line["kind"] == "all"]
        first = min(line["step"] for line in lines)
        for line in lines:
            if line["step"] == first:
                continue
            key = (line["decoding"], line["max_calls"])
            old = next(o for o in lines if o["step"] == first and (o["decoding"], o["max_calls"]) == key)
            figures[key][seed] = f"{old['accuracy']:.2f} → {line['accuracy']:.2f}"
    print("| accuracy, before → after | " + " | ".join(f"seed {seed}" for seed in runs) + " |")
    print("|---" * (len(runs) + 1) + "|")
    for (decoding, calls), by_seed in sorted(figures.items(), key=lambda item: (item[0][0], -item[0][1])):
        print(f"| {decoding}, C = {calls} | " + " | ".join(by_seed[seed] for seed in runs) + " |")


def print_times(runs: dict[int, dict[str, Any]]) -> None:
    print("\n| seed | whole demo (s) | campaign | a step (s) | outside rollout and training | between phases (ms) |")
    print("|---|---|---|---|---|---|")
    for seed, result in runs.items():
        for row in result["times"]:
            print(
                f"| {seed} | {result['wall_s']:.0f} | {row['campaign']} | {row['step_s']:.2f} "
                f"| {row['outside']:.1%} | {1000 * row['overhead_s']:.0f} |"
            )


if __name__ == "__main__":
    main()
