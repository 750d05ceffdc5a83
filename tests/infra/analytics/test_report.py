import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from infra.analytics import report, show
from infra.analytics.charts import moving_mean
from infra.analytics.show import find, spans
from infra.storage import CampaignStore
from tests.infra.analytics.stored_kit import ANSWER, CODE, commit, commit_evaluation, config, response
from torl_core.errors import DataError


class Page(HTMLParser):
    """Text by tag, and every attribute that could cause a request."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.links, self.unbalanced = [], {}, [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "path", "use", "rect"):
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]

    def handle_startendtag(self, _tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect"):
            return
        if self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


def page(store, tmp_path):
    report(store, tmp_path / "out" / "report.html")
    return (tmp_path / "out" / "report.html").read_text()


def test_page_is_whole_and_asks_for_nothing(small, tmp_path):
    html = page(small, tmp_path)
    found = Page(html)
    assert found.unbalanced == []
    assert found.open == []
    assert [link for link in found.links if not link.startswith("#")] == []
    assert "<script" not in html
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    assert "#0a0b" not in html  # every colour follows the page
    assert "#0a0c" not in html
    for title in ("Mean reward", "Code ratio", "Pass ratio in wrong responses", "Code before the final answer"):
        assert title in found.text["h3"]
    assert html.count("<svg") == 6 + 6 + 1


def test_what_the_page_refers_to_is_there_once(small, tmp_path):
    html = page(small, tmp_path)
    for target in set(re.findall(r'(?:url\(#|href="#)([^")]+)', html)):
        assert html.count(f'id="{target}"') == 1


def test_what_a_model_wrote_cannot_become_markup(small, tmp_path):
    hostile = "<script>alert(1)</script> \x1b[31m \\boxed{1}"
    commit(small, "tool", 3, [response("tool-3-x", CODE, ("ok", "<b>1</b>"), hostile, correct=True, step=3)])
    html = page(small, tmp_path)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\x1b[31m" in html
    assert "&lt;b&gt;1&lt;/b&gt;" in html


def test_examples_show_whose_text_is_whose(small, tmp_path):
    html = page(small, tmp_path)
    example = html[html.index("Right, with the tool") :]
    example = example[example.index("<pre>") : example.index("</pre>")]
    assert re.findall(r'<span class="(\w+)"', example) == ["prompt", "model", "tool", "model"]
    assert '<span class="tool" title="tool, 7 tokens, no loss">\n1\n```\n</span>' in example
    assert 'title="model, 12 tokens, trained">So \\boxed{1}</span>' in example


def test_evaluations_before_and_after(small, tmp_path):
    CampaignStore(small, "plain").save_config(config("plain", max_calls=0))
    for name, step, right in (("tool", 0, 1), ("tool", 3, 3), ("plain", 0, 1), ("plain", 3, 2)):
        records = [response(f"e-{i}", ANSWER, correct=i < right, kind="sum" if i % 2 else "lcm") for i in range(4)]
        commit_evaluation(small, name, step, "toy", 0.0, records)
    html = page(small, tmp_path)
    assert '<span class="before">25.0% →</span> <b>75.0%</b>' in html
    assert '<span class="before">25.0% →</span> <b>50.0%</b>' in html
    assert "accuracy by kind" in html
    assert "0 → 3" in html


@pytest.mark.parametrize("started", [False, True])
def test_nothing_to_report_yet(store, tmp_path, started):
    if started:
        CampaignStore(store, "tool").save_config(config("tool"))
    html = page(store, tmp_path)
    assert ("Nothing here yet" in html) is not started
    assert Page(html).unbalanced == []


def test_moving_mean_skips_what_is_missing():
    values = np.array([0.0, 3.0, np.nan, 6.0, 9.0])
    assert moving_mean(values, 3) == pytest.approx([1.5, 1.5, np.nan, 7.5, 7.5], nan_ok=True)
    assert moving_mean(values, 1) == pytest.approx(values, nan_ok=True)


def shown(store, name, **options):
    console = Console(width=100, record=True, force_terminal=True, **options)
    with console.capture() as captured:
        console.print(show(store, name))
    return captured.get()


def test_show_tells_author_and_loss_without_colour(small):
    text = shown(small, "tool-1-b", color_system=None)
    titles = re.findall(r"─ (\w+ · \d+ tokens · [\w ]+) ─", text)
    assert titles == [
        "prompt · 2 tokens · no loss",
        "model · 28 tokens · trained",
        "tool · 41 tokens · no loss",
        "model · 28 tokens · trained",
        "tool · 7 tokens · no loss",
        "model · 12 tokens · trained",
    ]
    for part in (
        "tool, step 1, policy 0",
        "wrong, by grader 1",
        "-1  (correct -1)",
        "-0.500",
        "ZeroDivisionError",
        "the model ended it",
    ):
        assert part in text


def test_show_is_coloured_on_a_terminal(small):
    assert "\x1b[36m" in shown(small, "tool-1-b", color_system="standard")


def test_show_neutralises_terminal_escapes(small):
    commit(small, "tool", 3, [response("tool-3-x", "\x1b]0;gotcha\x07 [red]x[/red]", correct=True, step=3)])
    text = shown(small, "tool-3-x", color_system=None)
    assert r"\x1b]0;gotcha\x07 [red]x[/red]" in text
    assert "\x1b]" not in text


def test_spans_cover_prompt_and_response(small):
    row = find(small, "tool-1-a")
    assert "".join(span.text for span in spans(row)) == row["prompt_text"] + row["response"]
    assert [span.tokens for span in spans(row)] == [2, 28, 7, 12]


def test_find_takes_a_beginning_and_refuses_an_ambiguous_one(small):
    commit_evaluation(small, "tool", 0, "toy", 0.0, [response("eval-1", ANSWER, correct=True)])
    assert find(small, "tool-2")["trajectory_id"] == "tool-2-a"
    assert find(small, "eval")["benchmark"] == "toy"
    with pytest.raises(DataError, match=r"4 or more trajectories.*begin with 'tool-1', tool-1-a, tool-1-b, tool-1-c"):
        find(small, "tool-1")
    with pytest.raises(DataError, match=r"no trajectories.*'gone'.*torl sql"):
        find(small, "gone")


def test_evaluations_under_one_name_are_told_apart(small, tmp_path):
    def evaluated(step, right, count=4, **how):
        records = [response(f"e-{i}", ANSWER, correct=i < right) for i in range(count)]
        commit_evaluation(small, "tool", step, "toy", 0.0, records, **how)

    for step, right in ((0, 1), (3, 3)):
        evaluated(step, right, problems="a" * 64)
    evaluated(3, 2, problems="a" * 64, max_calls=0)
    evaluated(3, 5, count=5, problems="b" * 64)
    html = page(small, tmp_path)
    assert '<span class="before">25.0% →</span> <b>75.0%</b>' in html
    assert '<span class="before">75.0% →</span>' not in html
    for part in ("tool, C = 1", "tool, C = 0", f"greedy, problems {'a' * 12}", f"greedy, problems {'b' * 12}"):
        assert part in html


def test_of_two_evaluations_in_one_setting_the_report_shows_the_newer(small, tmp_path):
    """They differ in something else that decides, such as the sandbox's limits."""
    records = [[response(f"e-{i}", ANSWER, correct=i < right) for i in range(8)] for right in (1, 7)]
    commit_evaluation(small, "tool", 0, "toy", 0.0, records[0], max_calls=1, at="2026-01-02T00:00:00+00:00")
    commit_evaluation(small, "tool", 0, "toy", 0.0, records[1], at="2026-01-01T00:00:00+00:00")
    html = page(small, tmp_path)
    assert "12.5%" in html
    assert "87.5%" not in html


def test_evaluations_by_different_graders_are_told_apart(small, tmp_path):
    for step, right, grader in ((0, 1, "1"), (3, 3, "1"), (0, 0, "2"), (3, 2, "2")):
        records = [response(f"e-{i}", ANSWER, correct=i < right) for i in range(4)]
        commit_evaluation(small, "tool", step, "toy", 0.0, records, grader=grader)
    html = page(small, tmp_path)
    for before, after, grader in (("25.0%", "75.0%", "1"), ("0.0%", "50.0%", "2")):
        assert f'<span class="before">{before} →</span> <b>{after}</b>' in html
        assert f"greedy, judged by grader {grader}" in html


def test_the_report_says_where_graders_differ(small, tmp_path):
    assert "judged by grader" not in page(small, tmp_path)
    commit(small, "tool", 3, [response("tool-3-a", ANSWER, correct=True, step=3)], grader="2")
    commit(small, "tool", 4, [response("tool-4-a", ANSWER, correct=True, step=4)], grader="2")
    commit(small, "tool", 5, [response("tool-5-a", ANSWER, correct=True, step=5)], grader="10")
    commit(small, "new", 1, [response("new-1-a", ANSWER, correct=True)], grader="10")
    html = page(small, tmp_path)
    assert "Rows of this campaign were judged by graders 1, 2 (from step 3) and 10 (from step 5)." in html
    assert "Rows of this campaign were judged by grader 10." in html


def test_sources_have_a_table_where_there_are_several(small, tmp_path):
    assert "By source of the problems" not in page(small, tmp_path)
    for step, right in ((1, False), (2, True)):
        commit(
            small,
            "pool",
            step,
            [
                response(f"pool-{step}-a", CODE, ("ok", "1"), ANSWER, correct=right, step=step, source="math"),
                response(f"pool-{step}-b", ANSWER, correct=True, step=step, source="<numina>"),
            ],
        )
    html = page(small, tmp_path)
    table = html.partition("By source of the problems")[2].partition("<h2>")[0]
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr><td>.*?</tr>", table, re.DOTALL)]
    numina, math = [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]
    assert math[:6] == ["math", "2", "0.0% → 100.0%", "100.0% → 100.0%", "100.0% → 100.0%", "−1.00 → 1.00"]
    assert numina[:6] == ["&lt;numina&gt;", "2", "100.0% → 100.0%", "0.0% → 0.0%", "–", "1.00 → 1.00"]
