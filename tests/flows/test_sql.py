"""`torl sql` as a user meets it: options, exit codes, terminals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, commit, config, response
from torl_core.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    CampaignStore(store, "tool").save_config(config("tool"))
    commit(store, "tool", 1, [response("tool-1-a", "\x1b]0;gotcha\x07 [red]x[/red] " + ANSWER, correct=True)])
    return store


def torl(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def command(*arguments):
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def test_a_query_may_begin_with_a_comment(store):
    assert torl("sql", store.uri, "-- how many?\nSELECT count(*) AS n FROM trajectories").stdout == '"n"\n1\n'
    assert torl("sql", store.uri, "--format", "json", "--x=1\nSELECT 1 AS n").stdout == '[{"n":1}]\n'


def test_an_option_that_does_not_exist_is_named(store):
    result = torl("sql", store.uri, "SELECT 1", "--formt", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--formt" in result.stderr


def test_what_a_model_wrote_reaches_programs_exactly_and_terminals_harmlessly(store):
    asked = ("sql", store.uri, "SELECT response FROM trajectories", "--format")
    written = "\x1b]0;gotcha\x07 [red]x[/red] " + ANSWER
    assert json.loads(torl(*asked, "json").stdout) == [{"response": written}]
    assert torl(*asked, "csv").stdout == f'"response"\n"{written}"\n'
    for shown in (torl(*asked, "table").stdout, torl("show", store.uri, "tool-1").stdout):
        assert r"\x1b]0;gotcha\x07 [red]x[/red]" in shown
        assert "\x1b]0" not in shown


def test_errors_show_a_models_text_harmlessly(store):
    asked = "SELECT response::INT FROM trajectories"
    failed = subprocess.run(
        command("sql", store.uri, asked), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert (failed.returncode, failed.stdout) == (2, "")
    assert r"\x1b]0;gotcha\x07 [red]x[/red]" in failed.stderr
    assert "\x1b" not in failed.stderr


@pytest.mark.parametrize(
    "asked",
    [
        ["sql", "{}", "FROM steps"], ["report", "{}"], ["show", "{}", "tool-1"], ["store", "ls", "{}"],
        ["store", "ls", "{}", "--json"], ["store", "verify", "{}"], ["store", "gc", "{}"],
        ["store", "compact", "{}", "--campaign", "tool"], ["store", "cp", "{}", "copy"],
    ],
)  # fmt: skip
@pytest.mark.usefixtures("store")
def test_a_mistyped_store_is_bad_input(tmp_path, asked, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("stroe", ".", "memory://stroe"):
        with pytest.raises(DataError, match=r"there is no store at .*Correct the address"):
            torl(*(part.format(address) for part in asked))
    assert [place.name for place in tmp_path.iterdir()] == ["store"]
    assert DataError.exit_code == 2


def test_a_store_whose_first_campaign_has_just_begun(tmp_path):
    store = Store.open(tmp_path / "new")
    CampaignStore(store, "tool").save_config(config("tool"))
    assert torl("sql", store.uri, "SELECT campaign FROM campaigns").stdout == '"campaign"\n"tool"\n'
    listed = torl("store", "ls", store.uri)
    assert (listed.exit_code, listed.stdout.split(":")[0]) == (0, "tool")
    assert torl("report", store.uri, "--out", tmp_path / "report.html").exit_code == 0


def test_other_files_are_read_with_an_option_alone(store, tmp_path):
    (tmp_path / "own.csv").write_text("a\n1\n")
    asked = ("sql", store.uri, f"FROM '{tmp_path / 'own.csv'}'")
    allowed = torl(*asked, "--allow-files")
    assert (allowed.exit_code, allowed.stdout) == (0, '"a"\n1\n')
    refused = subprocess.run(command(*asked), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--allow-files" in refused.stderr


ENDLESS = "SELECT count(*) FROM range(1000000000) a(i), range(1000000) b(j) WHERE (i * j) % 7 = 3"


@pytest.mark.parametrize("sql", [ENDLESS, "FROM range(1000000000000)"])
def test_ctrl_c_ends_with_130_and_without_a_traceback(store, tmp_path, sql):
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(command("sql", store.uri, sql), cwd=ROOT, stdout=out, stderr=err)
        try:
            _wait_for_work(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "err").read_text() == ""


def _wait_for_work(process):
    """Until the query runs: DuckDB's threads are then busy for longer than imports take."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        assert process.poll() is None
        threads = len(os.listdir(f"/proc/{process.pid}/task"))
        ticks = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        if threads > 1 and ticks > 5 * os.sysconf("SC_CLK_TCK"):
            return
        time.sleep(0.1)
    raise AssertionError("the query did not start")


HEAD = '"$@" | head -n 2; exit ${PIPESTATUS[0]}'


def test_who_reads_only_the_beginning_ends_it_quietly(store):
    line = subprocess.run(
        ["bash", "-c", HEAD, "-", *command("sql", store.uri, "FROM range(1000000)")],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (line.stdout, line.stderr) == ('"range"\n0\n', "")
    assert line.returncode == 1


def test_a_query_does_not_import_what_draws_charts(store):
    asked = "import sys\nfrom flows.cli import app\ntry:\n    app()\nfinally:\n    print('matplotlib' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", asked, "sql", store.uri, "SELECT 1 AS a"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert ran.stdout == '"a"\n1\nFalse\n'
