import hashlib
import json
import os
import subprocess
import sys
import time
import uuid

import pytest

from infra.storage import Store
from infra.storage.cache import FolderCache
from infra.storage.digests import digest_folder
from infra.storage.remote import options
from torl_core.errors import StoreError


def make_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


MODEL = {"config.json": b"{}", "model.safetensors": b"\x00" * 1000, "nested/vocab.txt": b"a\nb\n"}


def test_written_bytes_are_read_back_and_listed(store):
    store.write("a/b.txt", b"one")
    store.write("a/c/d.bin", b"\xff\x00")
    assert store.read("a/b.txt") == b"one"
    assert store.list("a") == ["a/b.txt", "a/c/d.bin"]
    assert store.list("nothing/here") == []
    assert store.exists("a/b.txt")
    assert not store.exists("a/x.txt")
    store.delete("a")
    store.delete("a")
    assert store.list("") == []


def test_probe_leaves_nothing(store):
    store.check_writable()
    assert store.list("") == []


def test_what_is_committed_never_changes(store):
    store.write_once("m.json", b"first")
    store.write_once("m.json", b"first")
    with pytest.raises(StoreError, match="exists with other content"):
        store.write_once("m.json", b"second")
    assert store.read("m.json") == b"first"
    assert store.list("") == ["m.json"]


@pytest.mark.parametrize("uri", ["s3://bucket/runs", "/runs"])
def test_the_options_of_a_store_are_such_as_prefects_server_keeps(uri):
    """With the address of the task results (infra/blocks.py)."""
    assert json.loads(json.dumps(options(uri))) == options(uri)


def test_missing_object_is_named(store):
    with pytest.raises(StoreError, match=r"cannot read .*gone\.json.*not there"):
        store.read("gone.json")


def test_json_round_trip_and_damage(store):
    store.write_json("x.json", {"b": 1, "a": "é"})
    assert store.read_json("x.json") == {"a": "é", "b": 1}
    store.write("x.json", b'{"a": ')
    with pytest.raises(StoreError, match="is not JSON"):
        store.read_json("x.json")


def test_content_addressed_object_is_stored_once_and_verified(store):
    digest = hashlib.sha256(b"rows").hexdigest()
    key, found = store.put_object("t", b"rows", prefix="part-", suffix=".parquet")
    assert (key, found) == (f"t/part-{digest[:16]}.parquet", digest)
    assert store.put_object("t", b"rows", prefix="part-", suffix=".parquet") == (key, digest)
    assert store.list("t") == [key]
    assert store.get_object(key, digest) == b"rows"
    store.write(key, b"torn")
    with pytest.raises(StoreError, match="has digest"):
        store.get_object(key, digest)


def test_folder_round_trip(store, tmp_path):
    source = make_folder(tmp_path / "model", MODEL)
    digest = store.put_folder(source, "checkpoints/p")
    fetched = store.fetch_folder("checkpoints/p", digest)
    assert {p.relative_to(fetched).as_posix(): p.read_bytes() for p in fetched.rglob("*") if p.is_file()} == MODEL
    assert fetched == store.fetch_folder("checkpoints/p", digest)
    if store.is_local:
        assert str(fetched) == store.uri_of("checkpoints/p")
    store.verify_folder("checkpoints/p", digest)
    assert store.put_folder(source, "checkpoints/p") == digest
    assert source.is_dir()


def test_folder_of_an_unfinished_attempt_is_replaced_whole(store, tmp_path):
    store.put_folder(make_folder(tmp_path / "old", {"config.json": b"old", "stale.bin": b"s"}), "p")
    digest = store.put_folder(make_folder(tmp_path / "new", {"config.json": b"new"}), "p", move=True)
    assert store.list("p") == ["p/config.json"]
    assert (store.fetch_folder("p", digest) / "config.json").read_bytes() == b"new"
    assert not (tmp_path / "new").exists()


def test_fetch_by_absolute_address(store, tmp_path):
    digest = store.put_folder(make_folder(tmp_path / "m", MODEL), "p")
    other = Store.open(tmp_path / "another", cache=tmp_path / "cache")
    assert (other.fetch_folder(store.uri_of("p"), digest) / "config.json").read_bytes() == b"{}"
    assert (other.fetch_folder(store.uri_of("p")) / "config.json").read_bytes() == b"{}"


def test_overwritten_folder_is_detected(store, tmp_path):
    digest = store.put_folder(make_folder(tmp_path / "m", MODEL), "p")
    store.write("p/config.json", b"[]")
    with pytest.raises(StoreError, match="has digest"):
        store.verify_folder("p", digest)


def test_missing_or_empty_folder(store, tmp_path):
    with pytest.raises(StoreError, match="not there"):
        store.fetch_folder("nowhere", "0" * 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="has no files"):
        store.put_folder(tmp_path / "empty", "p")


def test_damaged_cache_entry_is_fetched_again(tmp_path):
    store = Store.open(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")
    digest = store.put_folder(make_folder(tmp_path / "m", MODEL), "p")
    cached = store.fetch_folder("p", digest)
    (cached / "config.json").write_bytes(b"damaged")
    assert (store.fetch_folder("p", digest) / "config.json").read_bytes() == b"{}"


def test_a_damaged_object_is_put_aside_and_kept(store, tmp_path):
    store.write("t/x.bin", b"damaged")
    store.put_folder(make_folder(tmp_path / "m", MODEL), "p")
    for key in ("t/x.bin", "p"):
        aside = store.quarantine(key)
        assert aside.startswith("quarantine/")
        assert aside.endswith(f"/{key}")
    assert store.list("t") == store.list("p") == []
    assert sorted(key.split("/", 2)[2] for key in store.list("quarantine")) == [
        "p/config.json", "p/model.safetensors", "p/nested/vocab.txt", "t/x.bin"]  # fmt: skip
    assert store.quarantine("t/x.bin") is None


def test_the_cache_evicts_the_longest_unused_but_nothing_in_use(tmp_path, monkeypatch):
    monkeypatch.setenv("TORL_CACHE_GIB", str(2500 / 2**30))
    cache = FolderCache(tmp_path / "cache")

    def add(name: str, unused_s: float) -> str:
        folder = make_folder(tmp_path / name, {"w": name.encode() * 1000})
        digest = digest_folder(folder)
        cache.add(folder, digest)
        os.utime(cache.root / digest, (time.time() - unused_s,) * 2)
        return digest

    first, second, third = add("a", 9000), add("b", 8000), add("c", 10)
    assert [cache.holds(digest) for digest in (first, second, third)] == [False, True, True]
    fourth, fifth = add("d", 5), add("e", 0)
    assert [cache.holds(digest) for digest in (second, third, fourth, fifth)] == [False, True, True, True]


def test_scratch_is_removed_and_moves_without_a_copy(tmp_path):
    store = Store.open(tmp_path / "s")
    with store.scratch() as folder:
        make_folder(folder / "policy", MODEL)
        inode = (folder / "policy" / "config.json").stat().st_ino
        digest = store.put_folder(folder / "policy", "p", move=True)
    assert (tmp_path / "s" / "p" / "config.json").stat().st_ino == inode
    assert not folder.exists()
    assert store.list("") == ["p/config.json", "p/model.safetensors", "p/nested/vocab.txt"]
    store.verify_folder("p", digest)


def test_keys_stay_inside_the_store(store):
    for key in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(StoreError, match="stay inside"):
            store.write(key, b"")


@pytest.mark.parametrize("uri", ["nosuch://bucket/x", "/dev/null/store", "/proc/store"])
def test_a_store_that_cannot_be_written(uri):
    with pytest.raises(StoreError) as caught:
        Store.open(uri).check_writable()
    assert uri in str(caught.value)


def test_folder_digest_is_what_a_shell_computes(tmp_path):
    make_folder(tmp_path / "m", MODEL)
    shell = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1"
    by_shell = subprocess.run(shell, shell=True, cwd=tmp_path / "m", capture_output=True, text=True, check=True).stdout
    assert digest_folder(tmp_path / "m") == by_shell.strip()


def test_readers_never_see_half_a_write(tmp_path):
    """Killed at any moment of writing, the object is the old one or the new one."""
    program = (
        "import sys; from infra.storage import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "for i in range(10**9): store.write('x', bytes([65 + i % 26]) * 300_000); print(i, flush=True)"
    )
    for lines in (1, 4, 9):
        child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(lines):
            child.stdout.readline()
        child.kill()
        child.wait()
        child.stdout.close()
        data = Store.open(tmp_path).read("x")
        assert len(data) == 300_000
        assert len(set(data)) == 1
        assert Store.open(tmp_path).list("") == ["x"]


@pytest.mark.parametrize(("umask", "folders", "files"), [(0o022, 0o755, 0o644), (0o027, 0o750, 0o640)])
@pytest.mark.parametrize("way", ["moved", "copied", "fetched"])
def test_what_is_stored_has_the_modes_of_the_umask(tmp_path, umask, folders, files, way):
    """`tempfile` and safetensors make folders of mode 0700 and files of mode 0600, whatever the umask."""
    source = make_folder(tmp_path / "m", MODEL)
    for path in (source, *source.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(umask)
    try:
        store = Store.open(
            f"memory://{uuid.uuid4().hex}" if way == "fetched" else tmp_path / "s", cache=tmp_path / "cache"
        )
        digest = store.put_folder(source, "p", move=way == "moved")
        store.write("small.json", b"{}")
        place = store.fetch_folder("p", digest)
    finally:
        os.umask(before)
    found = [place, *place.rglob("*"), *([tmp_path / "s" / "small.json"] if store.is_local else [])]
    assert len(found) in (5, 6)
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {folders}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {files}
    if way == "copied":
        assert (source / "config.json").stat().st_mode & 0o777 == 0o600, "the source is its owner's"
