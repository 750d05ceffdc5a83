"""What a user's SQL reads of a remote store: that store, and nothing else of the server."""

from contextlib import suppress

import pytest

from infra.analytics import answer
from infra.storage import CampaignStore, Store
from tests.infra.analytics.stored_kit import ANSWER, commit, config, response
from torl_core.errors import DataError


@pytest.mark.parametrize("store_uri", ["memory", "ceph"], indirect=True)
def test_a_query_reads_its_own_store_alone(store, store_uri):
    other = Store.open(f"{store_uri}2", cache=store.cache)  # its name begins as the store's does
    for one in (store, other):
        CampaignStore(one, "tool").save_config(config("tool"))
        commit(one, "tool", 1, [response("tool-1-a", ANSWER, correct=True)])
    (key,) = store.list("trajectories")
    for own in ("trajectories", f"read_parquet('{store.uri_of(key)}')"):
        assert answer(store, f"SELECT count(*) AS n FROM {own}", "json")["object"].to_pylist() == ['{"n":1}']
    name = other.uri.rsplit("/", 1)[1]
    for place in (other.uri, f"{store.uri}/../{name}"):
        with pytest.raises(DataError, match=r"may not do this|No files found"):
            answer(store, f"FROM read_parquet('{place}/{key}')", "json")
    for pattern in (f"{other.uri}/**", f"{store.uri}/../{name}/**", f"{store.uri[:-1]}?2/**"):
        with suppress(DataError):  # it is refused, or there is nothing
            assert answer(store, f"FROM glob('{pattern}')", "json").num_rows == 0
    found = answer(other, f"SELECT count(*) AS n FROM read_parquet('{store.uri_of(key)}')", "json", allow_files=True)
    assert found["object"].to_pylist() == ['{"n":1}']
