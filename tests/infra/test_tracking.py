import os
import re
import socket
import struct
import subprocess
import sys

import pytest

from infra.tracking import open_tracker
from torl_core.config import CampaignConfig


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def config(**tracking):
    values = {"name": "demo", "store": "s", "steps": 3, "model": {"path": "m"}, "problems": {"location": "p.jsonl"}}
    return CampaignConfig.model_validate(values | {"tracking": tracking})


def test_off_by_default(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    with open_tracker(config(), tmp_path / "runs") as tracker:
        tracker.log(1, {"loss": 0.5})
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_without_a_key_the_run_is_kept_offline(tmp_path, capsys):
    with open_tracker(config(wandb_project="torl-test"), tmp_path / "runs") as tracker:
        tracker.log(1, {"accuracy": 0.25})
        tracker.log(2, {"accuracy": 0.75})
    assert "wandb is off" not in capsys.readouterr().err
    (kept,) = (tmp_path / "runs").rglob("*.wandb")
    assert re.search(r"offline-run-\d+_\d+-demo-", str(kept))
    records = _records(kept)
    assert [r for r in records if "accuracy" in r] == [
        {"_step": "1", "accuracy": "0.25"},
        {"_step": "2", "accuracy": "0.75"},
    ]


def _records(path):
    """History rows of a wandb file, as {key: JSON text}: LevelDB's log of protobuf records behind a 7-byte header."""
    from wandb.proto import wandb_internal_pb2

    data, at, chunks, rows = path.read_bytes(), 7, [], []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no record begins in the last bytes of a block
            at += 32768 - at % 32768
            continue
        _crc, length, part = struct.unpack_from("<IHB", data, at)
        chunks.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if part in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(chunks))
            chunks = []
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows.append({name: items[name] for name in ("_step", "accuracy") if name in items})
    return rows


def test_a_failure_is_one_warning_and_training_goes_on(tmp_path, capsys):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with open_tracker(config(wandb_project="torl-test"), tmp_path / "runs") as tracker:
        tracker.log(1, {"accuracy": 0.25})
        tracker.log(2, {"accuracy": 0.25})
    warning = " ".join(capsys.readouterr().err.split())
    assert warning.count("training goes on") == 1
    assert "wandb is off for this run (FileExistsError" in warning


def test_errors_of_the_campaign_pass_through(tmp_path):
    with pytest.raises(RuntimeError, match="of the campaign"), open_tracker(config(), tmp_path):
        raise RuntimeError("of the campaign")


TRACKS = """
import sys, time
from pathlib import Path
from infra.tracking import open_tracker
from tests.infra.test_tracking import config
began = time.monotonic()
with open_tracker(config(wandb_project="torl-test"), Path(sys.argv[1])) as tracker:
    tracker.log(1, {"accuracy": 0.25})
print(time.monotonic() - began)
"""


def track(folder, **environment):
    """Seconds and stderr of a run in a process of its own: the library reads its environment once."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}  # the library puts some there, too
    done = subprocess.run(
        [sys.executable, "-c", TRACKS, str(folder)],
        env=plain | environment, capture_output=True, text=True, timeout=150, check=True,
    )  # fmt: skip
    return float(done.stdout), " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_service_that_does_not_answer_holds_up_a_start_for_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        took_s, said = track(tmp_path / "runs", WANDB_BASE_URL=url, WANDB_API_KEY="a" * 40)
    assert took_s < 40
    assert said.count("training goes on") == 1


@pytest.mark.slow
def test_the_users_mode_and_folder_are_taken(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for mode, kept in (("disabled", 0), ("offline", 1)):
        _, said = track(tmp_path / "runs", WANDB_MODE=mode, WANDB_DIR=str(elsewhere))
        assert len(list(elsewhere.rglob("*.wandb"))) == kept, mode
        assert said == ""
    assert not (tmp_path / "runs").exists()
