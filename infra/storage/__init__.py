"""Everything a campaign makes, in one store: a local folder, s3://bucket/prefix, or memory:// for tests.

campaigns/<name>/config.json                                  under which settings it runs
campaigns/<name>/steps/000007/manifest.json                   the step is done exactly when this exists
campaigns/<name>/steps/000007/compacted.json                  its rows lie in fewer files now
campaigns/<name>/evaluations/000007/<benchmark>-t0.json       the same for an evaluation
trajectories/campaign=<name>/step=000007/part-<digest>.parquet
evaluations/campaign=<name>/step=000007/benchmark=<b>/evaluation=<identity>/part-<digest>.parquet
checkpoints/<name>/step=000007/policy/                        an ordinary Hugging Face folder
checkpoints/<name>/step=000007/optimizer/
checkpoints/<name>/step=000000/                               of a fork: the state it started from
problems/<digest>.parquet, rejected/<digest>.jsonl
staging/campaign=<name>/step=000007/part-<digest>.parquet     sampled, not yet graded; gone once the step is done
"""

from infra.storage.campaign import (
    CampaignStore,
    EvaluationManifest,
    Ref,
    StepManifest,
    campaigns,
    differences,
    existing_store,
    get_table,
    put_table,
    versions,
)
from infra.storage.rows import (
    Record,
    call_statuses,
    model_texts,
    records_to_table,
    stored_grades,
    table_to_records,
    table_to_trajectories,
    with_verdicts,
)
from infra.storage.store import Store

__all__ = [
    "CampaignStore",
    "EvaluationManifest",
    "Record",
    "Ref",
    "StepManifest",
    "Store",
    "call_statuses",
    "campaigns",
    "differences",
    "existing_store",
    "get_table",
    "model_texts",
    "put_table",
    "records_to_table",
    "stored_grades",
    "table_to_records",
    "table_to_trajectories",
    "versions",
    "with_verdicts",
]
