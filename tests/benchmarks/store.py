"""What a stored trajectory costs: the Parquet rows against verl's JSON lines and against the bare token ids.

    python tests/benchmarks/store.py                  responses of the demo's base model, sampled here
    python tests/benchmarks/store.py --store STORE    every training step of a store that is there

Prints a markdown table of bytes per trajectory. verl's dump, which the original inherits, is one JSON line a response
with its texts and scores; it has no token ids, masks, log-probabilities or calls, so nothing can be trained from it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.resources import session
from infra.storage import Record, Store, campaigns, get_table, records_to_table
from infra.storage.campaign import table_bytes
from tasks.reward import score
from torl_core.codec import load_codec
from torl_core.config import CampaignConfig, EngineConfig, RolloutConfig, SandboxConfig, ToolConfig
from torl_core.engines import open_engine
from torl_core.prompts import make_prompt
from torl_core.protocols import Sampling
from torl_core.rollout import Attempt, roll_out
from torl_core.sandbox import open_sandbox
from torl_core.toy.base import build_base
from torl_core.toy.problems import toy_problems

SAMPLES = 16

GROUPS: Mapping[str, tuple[str, ...]] = {
    "token ids": ("token_ids",),
    "log-probabilities": ("logprobs",),
    "mask and segments": ("loss_mask", "segments"),
    "calls": ("tool_calls",),
    "problem and texts": ("problem_id", "statement", "gold_answer", "problem_metadata", "prompt_text", "response"),
}
"""Columns by what they hold; the others are one line of the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", help="measure its training steps instead of sampling")
    parser.add_argument("--problems", type=int, default=16, help=f"each is sampled {SAMPLES} times")
    given = parser.parse_args()
    tables = stored(Store.open(given.store)) if given.store else [sampled(given.problems)]
    print(markdown(tables))


def stored(store: Store) -> list[pa.Table]:
    refs = [ref for campaign in campaigns(store) for step in campaign.steps() for ref in step.trajectories]
    return [get_table(store, ref) for ref in refs]


def sampled(problems: int) -> pa.Table:
    """One step's rows: the demo's base model at temperature 1, its calls executed and its answers graded."""
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        build_base(base, seed=0)
        codec = load_codec(base)
        records = asyncio.run(_roll_out(base, problems))
        config = CampaignConfig.model_validate(
            {
                "name": "bench",
                "store": scratch,
                "steps": 1,
                "model": {"path": "m"},
                "problems": {"location": "toy:train"},
            }
        )
        with session():
            return score(records_to_table(records, codec), config)


async def _roll_out(base: Path, problems: int) -> list[Record]:
    codec = load_codec(base)
    chosen = toy_problems("train", problems)
    pairs = [(problem, make_prompt(problem, "short", codec)) for problem in chosen]
    attempts = [
        Attempt(prompt, f"bench-000001-{i:04d}-{k:02d}", f"bench-000001-{i:04d}")
        for i, (_, prompt) in enumerate(pairs)
        for k in range(SAMPLES)
    ]
    engine = await open_engine(EngineConfig(backend="transformers"), base, 0, "float32", 0)
    sandbox = await open_sandbox(SandboxConfig())
    try:
        rollout = RolloutConfig(max_new_tokens=64)
        trajectories = await roll_out(attempts, engine, sandbox, codec, rollout, ToolConfig(), Sampling(1.0, 1.0, 0))
    finally:
        await sandbox.close()
        await engine.close()
    return [Record(t, chosen[i // SAMPLES]) for i, t in enumerate(trajectories)]


# --- sizes


def json_lines(table: pa.Table) -> bytes:
    """As verl's trainer dumps a rollout, with the two figures its reward functions add."""
    names = ("prompt_text", "response", "gold_answer", "reward", "correct", "extracted_answer", "policy_version")
    rows = table.select(names).to_pylist()
    lines = [
        {
            "input": row["prompt_text"],
            "output": row["response"],
            "gts": row["gold_answer"],
            "score": row["reward"],
            "step": row["policy_version"] + 1,
            "acc": row["correct"],
            "pred": row["extracted_answer"],
        }
        for row in rows
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def token_ids(table: pa.Table, dtype: type[np.unsignedinteger]) -> bytes:
    """Of all rows, end to end."""
    return np.asarray(table.column("token_ids").combine_chunks().flatten(), dtype).tobytes()


def sampled_bits(table: pa.Table) -> float:
    """What the sampled tokens weigh under the policy that sampled them: no code that knows only that is shorter."""
    return -float(np.asarray(table.column("logprobs").combine_chunks().flatten(), np.float64).sum()) / math.log(2)


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd", compression_level=3).compress(data, asbytes=True))


def column_bytes(file: bytes) -> dict[str, int]:
    """Compressed bytes by group of columns, and what the file has besides its columns."""
    metadata = pq.read_metadata(io.BytesIO(file))
    by_column: dict[str, int] = {}
    for r in range(metadata.num_row_groups):
        for c in range(metadata.num_columns):
            chunk = metadata.row_group(r).column(c)
            name = chunk.path_in_schema.split(".")[0]
            by_column[name] = by_column.get(name, 0) + chunk.total_compressed_size
    groups = {group: sum(by_column.pop(name) for name in names) for group, names in GROUPS.items()}
    groups["everything else"] = sum(by_column.values())
    return groups | {"schema and statistics, once a file": len(file) - sum(groups.values())}


def markdown(tables: list[pa.Table]) -> str:
    """Every table is one file, as a step's rows are."""
    rows = sum(len(table) for table in tables)
    files = [table_bytes(table) for table in tables]

    def total(size: Callable[[pa.Table], int]) -> int:
        return sum(map(size, tables))

    lines = total(lambda t: len(json_lines(t)))
    figures = {
        "**Parquet rows** (all that training, SQL and `torl show` need)": sum(map(len, files)),
        **{f"- {group}": sum(column_bytes(f)[group] for f in files) for group in column_bytes(files[0])},
        "**JSON lines** as verl dumps them (texts and scores only)": lines,
        "the same, zstd": total(lambda t: len(zstd(json_lines(t)))),
        "**token ids** alone, as uint32": total(lambda t: len(token_ids(t, np.uint32))),
        "token ids as uint32, zstd": total(lambda t: len(zstd(token_ids(t, np.uint32)))),
    }
    if max(max(map(max, t.column("token_ids").to_pylist())) for t in tables) < 2**16:
        figures["token ids as uint16, zstd"] = total(lambda t: len(zstd(token_ids(t, np.uint16))))
    figures["sampled tokens under the policy itself, the least possible"] = round(sum(map(sampled_bits, tables)) / 8)
    tokens = total(lambda t: len(t.column("token_ids").combine_chunks().flatten())) / rows
    model_tokens = sum(sum(t.column("model_tokens").to_pylist()) for t in tables) / rows
    head = [
        f"{rows} rows in {len(files)} files, on average {tokens:.0f} tokens, {model_tokens:.0f} of them sampled:",
        "",
        "| | bytes a trajectory | of the JSON lines |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {k} | {v / rows:.1f} | {v / lines:.1%} |" for k, v in figures.items())])


if __name__ == "__main__":
    main()
