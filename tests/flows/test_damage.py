"""What one campaign of a store stores never makes the others unreadable: they are answered, and the damage is named."""

import csv
import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, CODE, commit, commit_evaluation, config, response
from torl_core.errors import StoreError


@pytest.fixture
def store(tmp_path):
    """Campaigns `bad` and `good`: two steps of two responses each, and one evaluation."""
    store = Store.open(tmp_path / "store")
    for name in ("bad", "good"):
        CampaignStore(store, name).save_config(config(name))
        for step in (1, 2):
            right = response(f"{name}-{step}-a", CODE, ("ok", "1"), ANSWER, correct=True, step=step)
            commit(store, name, step, [right, response(f"{name}-{step}-b", ANSWER, correct=False, step=step)])
        commit_evaluation(store, name, 2, "toy", 0.0, [response(f"{name}-eval-a", ANSWER, correct=True)])
    return store


def config_of(_store):
    return "campaigns/bad/config.json"


def manifest_of(_store):
    return "campaigns/bad/steps/000001/manifest.json"


def evaluation_manifest_of(store):
    return only(store.list("campaigns/bad/evaluations"))


def rows_of(store):
    return only(store.list("trajectories/campaign=bad/step=000001"))


def last_rows_of(store):
    return only(store.list("trajectories/campaign=bad/step=000002"))


def evaluation_of(store):
    return only(store.list("evaluations/campaign=bad"))


def only(keys):
    (key,) = keys
    return key


def torn(data):
    return data[: len(data) // 2]


def emptied(_data):
    return b""


def missing(_data):
    return None


def overwritten(data):
    """As many bytes as before, so that only reading them tells."""
    return bytes(len(data))


def edited(**values):
    return lambda data: json.dumps(json.loads(data) | values).encode()


def endless(data):
    """As many responses as no column counts."""
    (ref,) = json.loads(data)["trajectories"]
    return edited(trajectories=[ref | {"rows": 2**63}])(data)


CASES = {  # the damaged file, what it holds then, what is said of it, and whose responses are lost
    "a seed of 2**63 in a config": (config_of, edited(seed=2**63), "seed is 9223372036854775808", ""),
    "a torn config": (config_of, torn, "is not JSON", ""),
    "a config that is a list": (config_of, lambda _: b"[1, 2]", "holds [1, 2]", ""),
    "a config without what the views show": (config_of, lambda _: b"{}", "'name'", ""),
    "a torn manifest": (manifest_of, torn, "is not JSON", "bad-1"),
    "an emptied manifest": (manifest_of, emptied, "is not JSON", "bad-1"),
    "brackets without end": (manifest_of, lambda _: b"[" * 100_000, "is not JSON", "bad-1"),
    "2**63 responses in a manifest": (manifest_of, endless, "responses is 9223372036854775808", ""),
    "a manifest of no known time": (manifest_of, edited(created_at="then"), "then", ""),
    "a manifest of another campaign": (manifest_of, edited(campaign="good"), "campaign 'good'", "bad-1"),
    "a manifest of a later version": (manifest_of, edited(schema_version=99), "version 99", "bad-1"),
    "a torn manifest of an evaluation": (evaluation_manifest_of, torn, "is not JSON", "bad-eval"),
    "torn rows": (rows_of, torn, "bytes, recorded were", "bad-1"),
    "emptied rows": (rows_of, emptied, "it has 0 bytes", "bad-1"),
    "missing rows": (rows_of, missing, "it is not there", "bad-1"),
    "overwritten rows": (rows_of, overwritten, "has digest", "bad-1"),
    "overwritten rows of the last step": (last_rows_of, overwritten, "has digest", "bad-2"),
    "torn rows of an evaluation": (evaluation_of, torn, "bytes, recorded were", "bad-eval"),
    "overwritten rows of an evaluation": (evaluation_of, overwritten, "has digest", "bad-eval"),
}
A_LISTING_SHOWS_NOTHING_OF = ("overwritten", "2**63", "a config without", "a manifest of no known time")


def torl(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def assert_names(result, key, said):
    """The command's exit code is 1, and stderr has one line: the file, what is wrong, and a remedy."""
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"damaged: {key}: ")
    assert said in line
    assert any(remedy in line for remedy in ("estore", "Install the torl"))


@pytest.fixture(params=CASES)
def damage(request, store):
    """(key, what is said of it, the responses that are lost) of a store with one damaged file."""
    place, hurt, said, lost = CASES[request.param]
    key = place(store)
    data = hurt(store.read(key))
    if data is None:
        store.delete(key)
    else:
        store.write(key, data)
    return key, said, lost


WHOLE = [f"{name}-{which}" for name in ("bad", "good") for which in ("1-a", "1-b", "2-a", "2-b", "eval-a")]


def test_sql_answers_for_the_others(store, damage):
    key, said, lost = damage
    sql = "SELECT trajectory_id, max_calls FROM (FROM trajectories UNION ALL BY NAME FROM evaluations) ORDER BY 1"
    answer = torl("sql", store.uri, sql)
    assert_names(answer, key, said)
    rows = list(csv.DictReader(answer.stdout.splitlines()))
    assert [row["trajectory_id"] for row in rows] == [one for one in WHOLE if not (lost and one.startswith(lost))]
    assert {row["max_calls"] for row in rows if row["trajectory_id"].startswith("good")} == {"1"}


def test_the_report_is_of_the_others(store, damage, tmp_path):
    key, said, _ = damage
    assert_names(torl("report", store.uri, "--out", tmp_path / "r.html"), key, said)
    page = (tmp_path / "r.html").read_text()
    lineage = page[page.index("<tr><td>good</td>") :]
    lineage = lineage[: lineage.index("</tr>")]
    assert "checkpoints/c/step=000002/policy" in lineage
    assert "<td>8.0 s</td>" in lineage


def test_one_trajectory_of_the_others_is_shown(store, damage):
    key, said, _ = damage
    result = torl("show", store.uri, "good-1-a")
    assert_names(result, key, said)
    assert "good, step 1, policy 0" in result.stdout


def test_the_listing_has_the_others(store, damage, request):
    key, said, _ = damage
    result = torl("store", "ls", store.uri, "--json")
    good = [line for line in map(json.loads, result.stdout.splitlines()) if line["campaign"] == "good"]
    assert [line["kind"] for line in good] == ["campaign", "step", "step", "evaluation"]
    if any(case in request.node.callspec.id for case in A_LISTING_SHOWS_NOTHING_OF):
        assert (result.exit_code, result.stderr) == (0, "")
    else:
        assert_names(result, key, said)


def test_behind_a_torn_compaction_the_manifests_own_files_are_read(store):
    key = CampaignStore(store, "bad").compaction_key(1)
    store.write(key, b'{"campaign": "bad"')
    answer = torl("sql", store.uri, "SELECT count(*) AS n FROM trajectories")
    assert_names(answer, key, "is not JSON")
    assert answer.stdout.split()[1:] == ["8"]


def test_the_listing_names_a_lease_that_cannot_be_read(store):
    key = "campaigns/bad/lease/00000001.json"
    store.write(key, b"{}")
    result = torl("store", "ls", store.uri)
    assert result.exit_code == 1
    assert f"damaged: {key}: " in result.stderr
    assert "is not a lease" in result.stderr
    assert "good: 2 steps, 4 rows" in result.stdout


def test_upkeep_of_a_store_with_a_torn_manifest_or_lease_touches_nothing_of_that_campaign(store):
    for key in ("campaigns/bad/steps/000001/manifest.json", "campaigns/bad/lease/00000001.json"):
        store.write(key, b"{")
        store.write("trajectories/campaign=good/step=000001/part-0000.parquet", b"garbage")
        before = store.list("campaigns/bad") + store.list("trajectories/campaign=bad")
        result = torl("store", "gc", store.uri, "--delete", "--older-than", 0)
        assert result.exit_code == 1
        assert f"campaign bad is left alone: {store.uri_of(key)} is not" in result.stderr
        assert "removed trajectories/campaign=good/step=000001/part-0000.parquet" in result.stdout
        assert store.list("campaigns/bad") + store.list("trajectories/campaign=bad") == before
        assert torl("store", "compact", store.uri, "--campaign", "good").exit_code == 0


@pytest.mark.parametrize("command", [["compact", "--campaign", "bad"], ["cp"], ["verify"]])
def test_upkeep_says_which_manifest_is_torn(store, tmp_path, command):
    key = "campaigns/bad/steps/000001/manifest.json"
    store.write(key, b"{")
    name, *options = command
    arguments = [store.uri, *([tmp_path / "copy"] if name == "cp" else []), *options]
    if name == "verify":
        result = torl("store", name, *arguments)
        assert (result.exit_code, key in result.stdout) == (1, True)
    else:
        with pytest.raises(StoreError, match=f"{key} is not JSON"):
            torl("store", name, *arguments)
