"""Which columns are taken of a source, and the gold answer that is in them."""

import pytest

from infra.problems import load_problems
from tests.infra.problems.kit import jsonl, load, refused
from torl_core.config import ProblemsConfig
from torl_core.errors import DataError

GSM8K = "She has 3 + 4 = <<3+4=7>>7 apples.\n#### 1,080"
MATH = r"So $x = 3$, hence $\boxed{4}$ or rather $\boxed{\frac{1}{2}}$."


def taken(location, **keys) -> str:
    """What is said of the columns."""
    loaded = load_problems(ProblemsConfig(location=location, skip_rejected=True, **keys))
    return str(loaded.taken[location])


FOUND = {
    "ours": (
        {"id": 1, "problem": "1?", "answer": "1"},
        ("1?", "1"),
        "statement from problem, answer from answer (plain), id from id",
    ),
    "GSM8K": (
        {"question": "1?", "answer": GSM8K},
        ("1?", "1,080"),
        "statement from question, answer from answer (gsm8k), id from the statement's digest",
    ),
    "MATH": (
        {"problem": "1?", "level": "Level 5", "type": "Algebra", "solution": MATH},
        ("1?", r"\frac{1}{2}"),
        "statement from problem, answer from solution (boxed), id from the statement's digest",
    ),
    "MATH-500": (
        {"problem": "1?", "solution": MATH, "answer": "2", "unique_id": "a/1.json"},
        ("1?", "2"),
        "statement from problem, answer from answer (plain), id from the statement's digest; not taken: solution",
    ),
    "OlympiadBench": (
        {"id": 1606, "question": "1?", "solution": ["long"], "final_answer": ["2"], "context": None},
        ("1?", "2"),
        "statement from question, answer from final_answer (plain), id from id; not taken: solution",
    ),
    "verl": (
        {
            "data_source": "dapo",
            "prompt": [{"role": "user", "content": "1?"}],
            "reward_model": {"ground_truth": "34", "style": "rule"},
        },
        ("1?", "34"),
        "statement from prompt, answer from reward_model.ground_truth (plain), id from the statement's digest, "
        "source from data_source",
    ),
    "AIME with capitals": (
        {"ID": "2024-I-1", "Problem": "1?", "Solution": "long", "Answer": 33},
        ("1?", "33"),
        "statement from Problem, answer from Answer (plain), id from the statement's digest; not taken: Solution",
    ),
    "an empty column": (
        {"prompt": "", "question": "1?", "answer": None, "final_answer": [], "ground_truth": "5"},
        ("1?", "5"),
        "statement from question, answer from ground_truth (plain), id from the statement's digest",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_known_columns_are_found_and_said(tmp_path, kind):
    row, (statement, answer), said = FOUND[kind]
    location = jsonl(tmp_path / "x.jsonl", row)
    [problem], _ = load(location)
    assert (problem.statement, problem.answer) == (statement, answer)
    assert taken(location) == said


def test_what_the_config_names_is_taken(tmp_path):
    row = {"problem": "no", "text": "1?", "answer": "0", "out": {"value": MATH}, "no": "a", "from": "web"}
    location = jsonl(tmp_path / "x.jsonl", row)
    keys = {"statement": "text", "answer": "out.value", "answer_format": "boxed", "problem_id": "no", "origin": "from"}
    [problem], _ = load(location, **keys)
    assert (problem.problem_id, problem.statement, problem.answer) == ("a", "1?", r"\frac{1}{2}")
    assert problem.source == "web"
    assert taken(location, **keys) == (
        "statement from text, answer from out.value (boxed), id from no, source from from"
    )


def test_without_a_known_column_the_error_lists_those_there_are(tmp_path):
    location = jsonl(tmp_path / "x.jsonl", {"problem": "1?", "value": "1"})
    with pytest.raises(DataError, match=r"x\.jsonl has no column.*answer \(columns: problem, value\).*final_answer"):
        load(location)
    with pytest.raises(DataError, match=r"no column.*for the statement \(columns: answer\)"):
        load(jsonl(tmp_path / "x.jsonl", {"answer": "1"}))


def test_rows_name_their_source_unless_the_config_does(tmp_path):
    rows = [{"problem": f"{i}", "answer": "1", "source": source} for i, source in enumerate(["a", "b", None])]
    location = jsonl(tmp_path / "pool.jsonl", *rows)
    assert [p.source for p in load(location)[0]] == ["a", "b", "pool"]
    assert [p.source for p in load(location, name="mine")[0]] == ["mine"] * 3
    many = [{"problem": f"{i}", "answer": "1", "source": f"https://example.org/{i}"} for i in range(40)]
    location = jsonl(tmp_path / "many.jsonl", *many)
    assert {p.source for p in load(location)[0]} == {"many"}
    assert len({p.source for p in load(location, origin="source")[0]}) == 40


def test_the_columns_are_those_of_the_whole_head_and_not_of_the_first_row(tmp_path):
    rows = [{"problem": "0?", "solution": "long"}, {"problem": "1?", "solution": "long", "answer": "7"}]
    location = jsonl(tmp_path / "x.jsonl", *rows)
    assert refused(location) == [(1, "no column 'answer' (columns: problem, solution)")]


# --- golds


def answers(tmp_path, *values, **keys):
    """(the golds, the reasons of rejected rows)"""
    rows = [{"problem": f"{i}?", "answer": value} for i, value in enumerate(values)]
    location = jsonl(tmp_path / "x.jsonl", *rows)
    problems, rejected = load(location, skip_rejected=True, **keys)
    return [p.answer for p in problems], [row.reason for row in rejected]


def test_a_solution_is_never_taken_for_an_answer(tmp_path):
    """The rule is that of most rows; the others are listed, not read by another rule."""
    assert answers(tmp_path, "7", "8", "9", GSM8K, MATH) == (
        ["7", "8", "9"],
        [
            "its answer is a whole solution (it has '#### 1,080'): see answer_format gsm8k",
            r"its answer is a whole solution (it has '\\boxed'): see answer_format boxed",
        ],
    )
    assert answers(tmp_path, GSM8K, GSM8K.replace("1,080", "5"), "no mark", "#### ") == (
        ["1,080", "5"],
        ["its solution has no line `#### ANSWER`"] * 2,
    )
    no_box = "its solution has no closed \\boxed{...} with an answer in it"
    assert answers(tmp_path, MATH, r"\boxed{7}", r"\boxed{ }", r"\boxed{7", "7", MATH, MATH) == (
        [r"\frac{1}{2}", "7", r"\frac{1}{2}", r"\frac{1}{2}"],
        [no_box] * 3,
    )


def test_a_named_rule_holds_for_every_row(tmp_path):
    assert answers(tmp_path, "7", MATH, answer_format="boxed")[0] == [r"\frac{1}{2}"]
    assert answers(tmp_path, "7", GSM8K, answer_format="gsm8k")[0] == ["1,080"]
    assert answers(tmp_path, "7", MATH, MATH, answer_format="plain")[0] == ["7"]


UNMATCHED = [
    (r"\frac{1}{2", "its braces do not match"),
    ("1}{", "its braces do not match"),
    (". .", "nothing in it stands for an answer"),
    ("$$", "nothing in it stands for an answer"),
    ("(" * 60 + "1" + ")" * 60, "nested deeper than"),
    ("1\x00", "control"),
    ("1" * 1500, "digits"),
    ("x + " * 5000 + "x", "longer than"),
]


@pytest.mark.parametrize(("gold", "why"), UNMATCHED, ids=[why for _, why in UNMATCHED])
def test_a_gold_that_cannot_match_itself_is_a_rejected_row(tmp_path, gold, why):
    kept, [reason] = answers(tmp_path, gold, "7", r"\text{east}", "12 (pears)", "(1, 2]", "x = 5")
    assert kept == ["7", r"\text{east}", "12 (pears)", "(1, 2]", "x = 5"]
    assert reason.startswith("its gold answer ")
    assert "matches no answer, not even itself" in reason
    assert why in reason
