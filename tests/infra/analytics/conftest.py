"""Small stores with known contents; the values their views must show are worked out by hand in the tests."""

import pytest

from infra.storage import CampaignStore, Store, records_to_table
from tests.infra.analytics.stored_kit import ANSWER, CODE, Letters, commit, config, response


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


@pytest.fixture
def small(store):
    """Campaign `tool`: step 1 with four responses, step 2 with one; a third step that was never committed."""
    CampaignStore(store, "tool").save_config(config("tool"))
    commit(
        store,
        "tool",
        1,
        [
            response("tool-1-a", CODE, ("ok", "1"), ANSWER, correct=True),
            response("tool-1-b", CODE, ("error", ""), CODE, ("ok", "1"), ANSWER, correct=False, kind="lcm"),
            response("tool-1-c", ANSWER + "\n```python\nprint(1)\n```", correct=True, stop="length"),
            response("tool-1-d", "no idea", correct=None),
        ],
    )
    commit(store, "tool", 2, [response("tool-2-a", ANSWER, correct=True, step=2)], {"rollout": 1.0, "train": 2.0})
    uncommitted = records_to_table([response("tool-3-a", ANSWER, correct=True, step=3)], Letters())
    CampaignStore(store, "tool").put_trajectories(3, uncommitted)
    return store
