r"""How many answers the grader judges a second on one core.

    python -m tests.benchmarks.grading [CASES.jsonl]

Without a file it judges the labelled pairs of the tests, each once. A file has a JSON object a line with `gold`,
`response`, `expected` and `kind`. Prints markdown tables: rates of one core, and the wrong verdicts by kind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from tests.torl_core.grading.test_equivalence import DIFFERENT, SAME
from torl_core.grading import last_boxed, open_grader, prose
from torl_core.grading.equivalence import equivalent

SIMPLE = [(str(n), str(n + n % 2)) for n in range(20_000)]
Case = tuple[str, str, str, bool]
"""Kind, gold, response and whether it is right."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", type=Path, help="labelled cases, JSONL")
    given = parser.parse_args()
    cases = from_file(given.cases) if given.cases else from_tests()
    start = time.process_time()
    wrong = [(kind, right) for kind, gold, response, right in cases if judged(gold, response) is not right]
    mixed = len(cases) / (time.process_time() - start)
    start = time.process_time()
    for gold, answer in SIMPLE:
        equivalent(gold, answer)
    simple = len(SIMPLE) / (time.process_time() - start)
    print("| what | figure |\n|---|---|")
    print(f"| these {len(cases)} cases, with the search for the box | {mixed:,.0f}/s |")
    print(f"| whole numbers | {simple:,.0f}/s |")
    print(f"| a grader of two workers, until it is ready | {asyncio.run(opening()):.2f} s |")
    for label, right in (("wrong ones accepted", False), ("right ones refused", True)):
        total = sum(expected is right for *_, expected in cases)
        print(f"| {label} | {sum(verdict is right for _, verdict in wrong)} of {total} |")
    if wrong:
        print("\n| kind | accepted | refused |\n|---|---|---|")
    for kind, _ in Counter(kind for kind, _ in wrong).most_common():
        accepted, refused = (sum(pair == (kind, right) for pair in wrong) for right in (False, True))
        print(f"| {kind} | {accepted} | {refused} |")


def from_file(path: Path) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(row["kind"], row["gold"], row["response"], row["expected"]) for row in rows]


def from_tests() -> list[Case]:
    pairs = [
        (*line.strip().split(" ;; "), right) for table, right in ((SAME, True), (DIFFERENT, False))
        for line in table.strip().splitlines()
    ]  # fmt: skip
    return [("tests", gold, rf"\boxed{{{answer} }}", right) for gold, answer, right in pairs]


def judged(gold: str, response: str) -> bool | None:
    return equivalent(gold, last_boxed(prose(response))).correct


async def opening() -> float:
    start = time.perf_counter()
    grader = await open_grader(2)
    took = time.perf_counter() - start
    await grader.close()
    return took


if __name__ == "__main__":
    main()
