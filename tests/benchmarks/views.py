"""What a question about a store takes: opening the views, the query itself, and `torl sql` as a whole.

    python -m tests.benchmarks.views --steps 120 --responses 64

Prints a markdown table of medians, in seconds. The store is local; its responses have about 130 tokens and one call.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import duckdb

from infra.analytics import ask
from infra.storage import CampaignStore, StepManifest, Store, records_to_table
from tests.infra.analytics.stored_kit import ANSWER, CODE, Letters, config, response
from torl_core.types import Policy

QUERY = "FROM figure5"
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--responses", type=int, default=64, help="of one step")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        fill(store, given.steps, given.responses)
        opened, answered, whole = [], [], []
        for _ in range(ROUNDS):
            opening, answering = question(store)
            opened.append(opening)
            answered.append(answering)
            whole.append(command(store))
    print(f"| `{QUERY}` over {given.steps} steps, {given.steps * given.responses:,} rows | s |\n|---|---|")
    for name, seconds in {"views open": opened, "answer": answered, "`torl sql`, whole": whole}.items():
        print(f"| {name} | {median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |")


def fill(store: Store, steps: int, responses: int) -> None:
    campaign = CampaignStore(store, "bench")
    campaign.save_config(config("bench", steps=steps))
    policies = [Policy(k, f"/models/{k}", f"{k:064x}") for k in range(steps + 1)]
    for step in range(1, steps + 1):
        text = f"Let me compute this in step {step}, which takes some words to say.\n{CODE}"
        names = [f"bench-{step:06d}-{i // 16:04d}-{i % 16:02d}" for i in range(responses)]
        turns = [(text, ("ok", str(i)), ANSWER) for i in range(responses)]
        records = [response(name, *turn, correct=True, step=step) for name, turn in zip(names, turns, strict=True)]
        ref = campaign.put_trajectories(step, records_to_table(records, Letters()))
        timing = {"rollout": 1.0, "reward": 0.1, "train": 0.5, "checkpoint": 0.1, "total": 1.8}
        done = StepManifest("bench", step, (ref,), policies[step - 1], policies[step], None, "0" * 12, phases_s=timing)
        campaign.commit_step(done)


def question(store: Store) -> tuple[float, float]:
    """Seconds until the views are open, and from there to the last row."""
    begun = time.perf_counter()

    def answer(connection: duckdb.DuckDBPyConnection) -> tuple[float, float]:
        opened = time.perf_counter()
        assert len(connection.execute(QUERY).fetchall()) > 0
        return opened - begun, time.perf_counter() - opened

    return ask(store, answer)


def command(store: Store) -> float:
    begun = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "torl", "sql", store.uri, QUERY], check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
