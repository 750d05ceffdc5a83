"""One file, a folder of shards or a pattern, on a disk and on S3; what cannot be a source is refused with a remedy."""

import gzip
import json

import fsspec
import pytest
from pydantic import ValidationError

from infra.s3 import BUCKET
from tests.infra.problems.kit import jsonl, load
from torl_core.config import ProblemsConfig
from torl_core.errors import DataError


def rows(*numbers: int) -> str:
    return "".join(json.dumps({"problem": f"{n}?", "answer": str(n)}) + "\n" for n in numbers)


def plant(system, root: str) -> None:
    """Shards in train/, with what writers leave beside them, and more in deeper folders."""
    files = {
        "train/part-1.jsonl": rows(3, 4),
        "train/part-0.jsonl": rows(1, 2),
        "train/part-2.jsonl.gz": rows(5),
        "train/_SUCCESS": "",
        "train/.part-0.jsonl.crc": "x",
        "train/_draft.jsonl": rows(9),
        "train/README.md": "# About",
        "deep/a/x.jsonl": rows(7),
        "deep/b/c/x.jsonl": rows(8),
        "mixed/x.jsonl": rows(1),
        "mixed/x.csv": "problem,answer\n1?,1\n",
        "bare/notes.txt": "nothing",
    }
    for name, text in files.items():
        system.makedirs(f"{root}/{name.rpartition('/')[0]}", exist_ok=True)
        with system.open(f"{root}/{name}", "wb") as file:
            file.write(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


FOUND = [
    ("train", ["1", "2", "3", "4", "5"], "train"),
    ("train/", ["1", "2", "3", "4", "5"], "train"),
    ("train/part-*.jsonl", ["1", "2", "3", "4"], "part"),
    ("train/part-[01].jsonl", ["1", "2", "3", "4"], "part"),
    ("train/part-2.jsonl.gz", ["5"], "part-2"),
    ("deep/**/*.jsonl", ["7", "8"], "deep"),
]
NOT_FOUND = [
    ("bare", "is a folder without a file of problems", "pattern"),
    ("deep", "is a folder without a file of problems", r"\*\*"),
    ("mixed", r"has files of several kinds \(.csv, .jsonl\)", r"/mixed/\*\.csv"),
    ("train/x-*.jsonl", "matches no file", "Correct the pattern"),
    ("train/README.md", "is of no known kind", "Convert"),
    ("train/*", "is of no known kind", "Convert"),
    ("nowhere.jsonl", "cannot be read", "Correct the location"),
    ("nowhere", "is of no known kind", "Convert"),
]


def check(root: str) -> None:
    for place, answers, source in FOUND:
        problems, rejected = load(f"{root}/{place}")
        assert rejected == []
        assert [p.answer for p in problems] == answers, place
        assert {p.source for p in problems} == {source}
    for place, what, remedy in NOT_FOUND:
        with pytest.raises(DataError, match=what) as caught:
            load(f"{root}/{place}")
        assert root in caught.value.what
        with pytest.raises(DataError, match=remedy):
            raise DataError(*caught.value.args)


def test_on_a_disk(tmp_path):
    plant(fsspec.filesystem("file"), str(tmp_path))
    check(str(tmp_path))


def test_on_s3(ceph_server, monkeypatch):
    for name, value in ceph_server.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    root = f"{BUCKET}/problems"
    plant(fsspec.filesystem("s3"), root.removeprefix("s3://"))
    check(root)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_name_with_brackets_is_a_file_where_there_is_one(tmp_path):
    assert [p.answer for p in load(jsonl(tmp_path / "a[1].jsonl", rows(1).strip()))[0]] == ["1"]


def test_a_folder_of_save_to_disk_says_how_it_is_read(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    (tmp_path / "saved" / "data.arrow").touch()
    with pytest.raises(DataError, match=f"Use hf:{tmp_path}/saved"):
        load(tmp_path / "saved")


def test_rows_are_named_with_their_shard(tmp_path):
    (tmp_path / "a").mkdir()
    for shard, answer in enumerate(["1", ""]):
        jsonl(tmp_path / "a" / f"{shard}.jsonl", {"problem": f"{shard}", "answer": answer})
    with pytest.raises(DataError, match=rf"1 of 2 rows .*{tmp_path}/a/1.jsonl:1: answer is empty"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("location", "remedy"),
    [
        ("", "give a folder or a URL"),
        ("hf:", "such as hf:openai/gsm8k:main"),
        ("hf: ", "such as hf:openai/gsm8k:main"),
        ("toy:", "such as toy:train"),
        ("s3://", "write s3://NAME/path"),
        ("s3:///x.jsonl", "write s3://NAME/path"),
        ("https:///x.jsonl", "it names no host"),
        ("ftp://host/x.jsonl", "copy the file to a folder"),
        ("hf://datasets/x", "write hf:NAME"),
        ("nosuch://x/y.jsonl", "problems are not read from nosuch:// addresses"),
    ],
)
def test_a_location_that_cannot_exist_is_refused_with_the_config(location, remedy):
    with pytest.raises(ValidationError, match=remedy):
        ProblemsConfig(location=location)
    with pytest.raises(ValidationError, match=remedy):
        ProblemsConfig(sources=[{"location": location}])
