"""`torl store`: stdout is data, the exit code is the verdict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.storage import CampaignStore, Store
from tests.infra.storage.campaign_kit import run_evaluation, run_step, start

ROOT = Path(__file__).parents[2]


def torl_store(*arguments):
    return CliRunner().invoke(app, ["store", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    campaign = start(store)
    run_step(campaign, 1, tmp_path, accuracy=0.25, reward=-0.5)
    second = run_step(campaign, 2, tmp_path)
    run_evaluation(campaign, 2, second.policy_out, accuracy=0.5)
    return store


def test_ls_is_a_table_for_people_and_lines_for_programs(store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = torl_store("ls", store.uri)
    assert (table.exit_code, table.stderr) == (0, "")
    heading, columns, first, _, third = table.stdout.splitlines()
    assert heading.startswith("demo: 2 steps, 4 rows in ")
    assert columns.split() == ["step", "what", "rows", "bytes", "policy", "checkpoint", "accuracy", "reward"]
    assert first.split()[:3] == ["1", "training", "2"]
    assert first.split()[-4:] == ["2.2", "KiB", "0.250", "-0.500"]
    assert third.split()[:4] == ["2", "toy", "T=0", "C=1"]
    found = [json.loads(line) for line in torl_store("ls", store.uri, "--json").stdout.splitlines()]
    assert [(line["kind"], line.get("step")) for line in found] == [
        ("campaign", None), ("step", 1), ("step", 2), ("evaluation", 2),
    ]  # fmt: skip
    assert found[0]["checkpoints"] == 2


def test_ls_says_where_several_graders_judged_a_campaign(store, tmp_path):
    assert "grader" not in torl_store("ls", store.uri).stdout
    run_step(CampaignStore(store, "demo"), 3, tmp_path, grader="2")
    assert torl_store("ls", store.uri).stdout.splitlines()[0].endswith("1 evaluations; judged by graders 1 and 2")
    found = [json.loads(line) for line in torl_store("ls", store.uri, "--json").stdout.splitlines()]
    assert found[0]["graders"] == ["1", "2"]
    assert [line["grader"] for line in found[1:]] == ["1", "1", "2", "1"]


def test_verify_is_silent_on_a_whole_store_and_exits_1_with_a_line_per_damage(store):
    whole = torl_store("verify", store.uri)
    assert (whole.exit_code, whole.stdout) == (0, "")
    assert "8 objects" in whole.stderr
    key = "checkpoints/demo/step=000001/policy"
    store.delete(f"{key}/config.json")
    damaged = torl_store("verify", store.uri, "--campaign", "demo")
    assert damaged.exit_code == 1
    (line,) = damaged.stdout.splitlines()
    assert line.startswith(f"{key}: its digest is ")


def test_gc_lists_first_and_removes_when_told(store):
    store.write("problems/.torl-tmp-01", b"half")
    store.write("notes.txt", b"mine")
    for arguments, line, summary in [
        ([], None, "1 younger than 1 h are left alone; see --older-than\nno garbage\n"),
        (["--older-than", "0"], "garbage", "1 pieces of garbage, 4 B; --delete removes them\n"),
        (["--older-than", "0", "--delete"], "removed", "1 pieces of garbage, 4 B, removed\n"),
        (["--older-than", "0"], None, "no garbage\n"),
    ]:
        result = torl_store("gc", store.uri, *arguments)
        shown = f"{line} problems/.torl-tmp-01 (4 B; temporary)\n" if line else ""
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{shown}unknown notes.txt\n", summary)
    with CampaignStore(store, "demo").hold("bold-otter"):
        result = torl_store("gc", store.uri, "--delete")
    assert "campaign demo is left alone: held by flow run bold-otter" in result.stderr


def test_cp_copies_what_ls_shows(store, tmp_path):
    for summary in ("8 objects copied, 0 skipped", "0 objects copied, 8 skipped"):
        result = torl_store("cp", store.uri, tmp_path / "copy", "--campaign", "demo")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.splitlines()[-1] == f"demo: {summary}, 3 manifests"
    assert torl_store("ls", tmp_path / "copy", "--json").stdout == torl_store("ls", store.uri, "--json").stdout


def test_compact_says_what_it_merged(store):
    result = torl_store("compact", store.uri, "--campaign", "demo")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (
        result.stderr.splitlines()[-1]
        == "nothing to merge: no step of demo has small files that were not merged before"
    )


def test_a_bad_request_is_one_error_and_exit_code_2(store):
    command = [sys.executable, "-m", "flows.cli", "store", "verify", store.uri, "--campaign", "x"]
    unknown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "has no campaign 'x'" in unknown.stderr
