"""Names that a shell, a glob or a chain of file systems would read otherwise, in keys and in paths of local stores."""

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.storage import CampaignStore, Store
from infra.storage.verification import plan, verify
from tests.infra.storage.campaign_kit import run_step, start
from torl_core.config import CampaignConfig
from torl_core.errors import ConfigError

NAMES = st.text("ab[]*?{}!:#%~ =&'\"\\$é", min_size=1, max_size=6).filter(lambda name: name.strip() == name)
ODD = ["a[1]", "a*", "a?", "a::b", "#1 & 2", "~x", "{a,b}"]


def check_names(store, names, folder):
    """Each name is an object of its own, a folder's file and a folder: no call touches what has another name."""
    for i, name in enumerate(names):
        store.write(f"t/{name}", str(i).encode())
    assert store.list("t") == sorted(f"t/{name}" for name in names)
    assert [entry.key for entry in store.entries("t")] == store.list("t")
    for i, name in enumerate(names):
        assert store.read(f"t/{name}") == str(i).encode()
        assert store.exists(f"t/{name}")
        (folder / name).write_bytes(str(i).encode())
    for name in names:
        digest = store.put_folder(folder, f"m/{name}")
        fetched = store.fetch_folder(f"m/{name}", digest)
        assert sorted(path.name for path in fetched.iterdir()) == sorted(names)
    first, *others = names
    assert store.quarantine(f"t/{first}").endswith(f"/t/{first}")
    assert store.list("t") == sorted(f"t/{name}" for name in others)
    for name in names:
        store.delete(f"m/{name}")
        assert not store.exists(f"m/{name}")
        left = names[names.index(name) + 1 :]
        assert store.list("m") == sorted(f"m/{a}/{b}" for a in left for b in names)


@settings(max_examples=40)
@given(names=st.lists(NAMES, min_size=2, max_size=4, unique=True), is_local=st.booleans(), place=NAMES)
def test_any_name_is_taken_literally(names, is_local, place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    (folder / "made").mkdir()
    address = folder / place if is_local else f"memory://{uuid.uuid4().hex}"
    check_names(Store.open(address, cache=folder / "cache"), names, folder / "made")


@pytest.mark.slow
@pytest.mark.parametrize("store_uri", ["ceph"], indirect=True)
def test_odd_names_on_a_real_server_and_a_slash_at_the_end(store_uri, tmp_path):
    (tmp_path / "made").mkdir()
    check_names(Store.open(store_uri, cache=tmp_path / "cache"), ODD, tmp_path / "made")
    campaign = start(Store.open(f"{store_uri}/c//", cache=tmp_path / "cache"))
    run_step(campaign, 1, tmp_path)
    for address in (f"{store_uri}/c", f"{store_uri}/c/"):
        store = Store.open(address)
        assert [found.name for found in (CampaignStore(store, "demo"),) if found.last_step() == 1] == ["demo"]
        assert set(verify(store, plan(store))) == {None}
    with pytest.raises(ConfigError, match="doubled slash"):
        Store.open(store_uri.replace("://torl/", "://torl//"))


@pytest.mark.parametrize("name", ODD)
def test_a_campaign_in_a_folder_of_any_name_is_whole_and_is_asked(tmp_path, name):
    from infra.analytics import query

    store = Store.open(tmp_path / name)
    run_step(start(store), 1, tmp_path)
    assert set(verify(store, plan(store))) == {None}
    assert query(store, "SELECT count(*) AS n FROM trajectories").to_pylist() == [{"n": 2}]


def values(**changes):
    base = {"name": "c", "store": "s", "steps": 1, "model": {"path": "m"}, "problems": {"location": "toy:train"}}
    return base | changes


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a\nb", "A", "a b", "x" * 64])
def test_a_campaigns_name_that_is_no_plain_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        CampaignConfig.model_validate(values(name=name))


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a\nb", " a", "a=b", "a[1]", "*", "x" * 64])
def test_a_benchmarks_name_that_is_no_file_name_is_refused(name):
    benchmarks = {name: {"problems": {"location": "toy:test"}}}
    with pytest.raises(ValueError, match="a benchmark's name is part of file names"):
        CampaignConfig.model_validate(values(evaluation={"benchmarks": benchmarks}))


def test_usual_names_of_benchmarks_are_taken():
    names = ["AIME24", "math500", "Olympiad-Bench v1.2", "数学", "a_b+c"]
    benchmarks = {name: {"problems": {"location": "toy:test"}} for name in names}
    assert (
        list(CampaignConfig.model_validate(values(evaluation={"benchmarks": benchmarks})).evaluation.benchmarks)
        == names
    )


@pytest.mark.parametrize("changes", [{"store": "s3://b//x"}, {"fork": {"store": "s3://b/a//x", "step": 1}}])
def test_a_config_with_a_doubled_slash_in_a_stores_address_is_refused(changes):
    with pytest.raises(ValueError, match="has a doubled slash"):
        CampaignConfig.model_validate(values(**changes))
