"""What a step's commit records."""

from pathlib import Path

from infra.storage import Store
from tasks.checkpoint import checkpoint
from tasks.step import Rollouts, Scored, Trained
from tests.infra.storage.campaign_kit import BASE, config, problems, rows, start
from tests.infra.storage.campaign_kit import checkpoint as made


def test_the_manifest_names_the_grader_that_judged_the_step(tmp_path: Path) -> None:
    campaign = start(Store.open(tmp_path / "store"))
    data = campaign.put_trajectories(1, rows("demo-1"))
    trained = Trained(*made(campaign, 1, tmp_path), train_s=1.0, checkpoint_s=0.5)
    manifest = checkpoint.fn(
        config("demo", store=str(tmp_path / "store")), 1, BASE, problems(campaign.store), Rollouts(data, 1.0),
        Scored(data, 0.5, grader="7"), trained, total_s=3.0, waited_s=0.0,
    )  # fmt: skip
    assert manifest.grader == "7"
    assert campaign.manifest(1) == manifest
