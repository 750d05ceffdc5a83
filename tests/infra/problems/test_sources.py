"""Several sources in one campaign."""

import json

import pytest

from infra.problems import load_problems
from tests.infra.problems.kit import jsonl, load
from torl_core.config import ProblemsConfig
from torl_core.curriculum import problem_indices
from torl_core.errors import DataError


@pytest.fixture
def sources(tmp_path):
    math = [{"id": i, "problem": f"{i}?", "solution": rf"So \boxed{{{i}}}."} for i in range(3)]
    (tmp_path / "gsm8k.json").write_text(
        json.dumps([{"id": i, "question": f"How many {i}?", "answer": f"#### {i}"} for i in range(2)])
    )
    return [
        {"location": jsonl(tmp_path / "math.jsonl", *math)},
        {"location": str(tmp_path / "gsm8k.json"), "name": "school"},
    ]


def test_each_source_has_columns_rule_and_name_of_its_own(sources):
    problems, rejected = load(sources=sources)
    assert rejected == []
    assert [(p.problem_id, p.source, p.answer) for p in problems] == [
        ("math/0", "math", "0"),
        ("math/1", "math", "1"),
        ("math/2", "math", "2"),
        ("school/0", "school", "0"),
        ("school/1", "school", "1"),
    ]


def test_the_digest_covers_every_source_its_name_and_the_order(sources):
    math, school = sources
    digests = {
        load_problems(ProblemsConfig(sources=chosen)).digest
        for chosen in (
            [math, school],
            [school, math],
            [math],
            [math, school | {"limit": 1}],
            [math, school | {"name": "b"}],
        )
    }
    assert len(digests) == 5


def test_weights_are_by_the_names_of_the_sources(sources):
    names = [p.source for p in load(sources=sources)[0]]
    for step in (1, 2, 3):
        chosen = problem_indices(names, 3, step, 0, {"math": 2, "school": 1})
        assert sorted(names[i] for i in chosen) == ["math", "math", "school"]


def test_a_problem_of_two_sources_is_rejected_in_the_second(tmp_path, sources):
    again = jsonl(tmp_path / "pool.jsonl", {"problem": "1?", "answer": "1"}, {"problem": "new?", "answer": "1"})
    with pytest.raises(DataError, match=rf"pool.jsonl: 1 of 2 rows .*same statement as {tmp_path}/math.jsonl:2"):
        load(sources=[*sources, {"location": again}])
    problems, [row] = load(sources=[*sources, {"location": again, "skip_rejected": True}])
    assert (len(problems), row.file, row.line) == (6, again, 1)


def test_rows_are_skipped_only_where_their_source_says_so(tmp_path, sources):
    bad = jsonl(tmp_path / "bad.jsonl", {"problem": "a?", "answer": ""}, {"problem": "b?", "answer": "1"})
    sources[0] |= {"skip_rejected": True}
    with pytest.raises(DataError, match=r"bad\.jsonl: 1 of 2 rows"):
        load(sources=[*sources, {"location": bad}])


def test_two_sources_of_one_name_are_refused(sources):
    with pytest.raises(DataError, match=r"two sources are called 'math'.*Give one of them another `name`"):
        load(sources=[sources[0], sources[1] | {"name": "math"}])
