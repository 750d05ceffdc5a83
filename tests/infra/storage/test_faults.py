"""An S3 that fails: every operation ends in success after retries, or in one clear error. Never in a torn object."""

import os
import ssl
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import trustme

from infra.storage import Store, remote
from infra.storage.digests import digest_folder
from tests.infra.storage.faults import Proxy, proxy
from tests.namespaces import run_mounted
from torl_core.errors import DamagedError, StoreError

DATA = bytes(range(256)) * 1000


@pytest.fixture
def faulty(
    ceph_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Store, Proxy]]:
    """A store on Ceph behind a proxy; the client gives up on silence after a second, to keep the tests short."""
    monkeypatch.setattr(remote, "READ_TIMEOUT_S", 1)
    monkeypatch.setattr(remote, "ATTEMPTS", 3)
    monkeypatch.setattr(remote, "PART_BYTES", 5 << 20)
    with proxy(ceph_server["AWS_ENDPOINT_URL"]) as between:
        for name, value in (ceph_server | {"AWS_ENDPOINT_URL": between.url}).items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield Store.open(f"s3://torl/{uuid.uuid4().hex}", cache=tmp_path / "cache"), between
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def over_tls(
    ceph_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], Store]]:
    """Opens a store on Ceph whose certificate is of the authority in `AWS_CA_BUNDLE`."""
    monkeypatch.setattr(remote, "PART_BYTES", 5 << 20)
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with proxy(ceph_server["AWS_ENDPOINT_URL"], tls) as between:
        names = {"AWS_ENDPOINT_URL": between.url, "AWS_CA_BUNDLE": str(tmp_path / "authority.pem")}
        for name, value in (ceph_server | names).items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield lambda: Store.open(f"s3://torl/{uuid.uuid4().hex}", cache=tmp_path / "cache")
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_over_tls_bodies_are_signed_as_every_s3_understands(over_tls, tmp_path):
    """A checksum in a trailer, botocore's way over TLS, is refused by R2 and by Ceph 16 (Debian 12)."""
    store = over_tls()
    store.write("one", DATA)
    assert store.read("one") == DATA
    assert not store.create("one", b"other")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(os.urandom(12 << 20))
    (tmp_path / "m" / "config").write_bytes(b"{}")
    digest = store.put_folder(tmp_path / "m", "m")
    assert digest_folder(store.fetch_folder("m", digest)) == digest


def test_a_certificate_of_an_unknown_authority_is_named(over_tls, monkeypatch):
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(StoreError, match=r"cannot write .*AWS_CA_BUNDLE"):
        over_tls().write("one", DATA)


@pytest.mark.parametrize("kind", ["InternalError", "SlowDown", "reset", "stall"])
def test_a_store_that_fails_for_a_while_is_asked_again(faulty, kind):
    store, between = faulty
    put = between.fault(kind, method="PUT", times=2)
    store.write("a/x", DATA)
    get = between.fault(kind, method="GET", path="a/x", times=2)
    assert store.read("a/x") == DATA
    assert put.struck == get.struck == 2
    assert store.list("") == ["a/x"]


def test_a_store_that_stops_in_the_middle_of_a_body_is_sent_it_again(faulty):
    """A body larger than any socket's buffers: nothing is waited for but the store's reading."""
    store, between = faulty
    data = os.urandom(40 << 20)
    stall = between.fault("stall", method="PUT", path="large", times=2)
    store.write("large", data)
    assert stall.struck == 2
    assert store.read("large") == data


def test_parts_have_one_size_whatever_comes(faulty):
    """R2 takes no others. 18 MiB in pieces of 6 and parts of 5: three whole ones and the rest."""
    store, _ = faulty
    store.put_chunks("large", iter([bytes(6 << 20)] * 3))
    assert store.fs.info(store.path("large"))["ETag"].strip('"').endswith("-4")


def test_a_body_that_breaks_off_is_fetched_again(faulty):
    store, between = faulty
    key, digest = store.put_object("t", DATA)
    cut = between.fault("truncate", method="GET", path=key, times=2)
    assert store.get_object(key, digest) == DATA
    assert cut.struck == 2


@pytest.mark.parametrize("kind", ["InternalError", "SlowDown", "reset", "stall", "truncate"])
def test_a_large_folder_goes_up_and_comes_down_whole(faulty, tmp_path, kind):
    """Three parts up, three ranges down, each way with failures between."""
    store, between = faulty
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(os.urandom(12 << 20))
    (tmp_path / "m" / "config").write_bytes(b"{}")
    digest = digest_folder(tmp_path / "m")
    up = between.fault("reset" if kind == "truncate" else kind, method="PUT", path="partNumber=2", times=2)
    assert store.put_folder(tmp_path / "m", "p") == digest
    down = between.fault(kind, method="GET", path="weights", after=1, times=2)
    assert digest_folder(store.fetch_folder("p", digest)) == digest
    assert up.struck == down.struck == 2


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("InternalError", "See to the store"),
        ("SlowDown", "See to the store"),
        ("reset", "See to the store"),
        ("ExpiredToken", "Renew the AWS credentials"),
        ("RequestTimeTooSkewed", "Set this machine's clock"),
        ("NoSuchBucket", "Create it, or correct the address"),
        ("AccessDenied", "Extend the policy"),
    ],
)
def test_a_store_that_goes_on_failing_is_one_clear_error(faulty, tmp_path, kind, remedy):
    """It names object, operation and remedy, and what was there before is as it was."""
    store, between = faulty
    store.fs.retries = 1
    store.write("a/x", DATA)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_bytes(DATA)
    between.fault(kind)
    for operation, failing in {
        "read": lambda: store.read("a/x"),
        "write": lambda: store.write("a/x", b"other"),
        "list": lambda: store.list("a"),
        "look up": lambda: store.exists("a/x"),
    }.items():
        with pytest.raises(StoreError) as caught:
            failing()
        assert f"cannot {operation} {store.uri_of('a')}" in str(caught.value), kind
        assert remedy in str(caught.value), kind
        assert not isinstance(caught.value, DamagedError), "trouble on the way is not damage"
    with pytest.raises(StoreError, match=f"cannot list .*/p .*{remedy}"):
        store.put_folder(tmp_path / "m", "p")
    between.faults.clear()
    assert store.read("a/x") == DATA
    assert store.list("") == ["a/x"]


def test_an_upload_that_fails_leaves_nothing_to_be_seen(faulty, tmp_path):
    store, between = faulty
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(os.urandom(12 << 20))
    between.fault("InternalError", method="PUT", path="partNumber=3")
    with pytest.raises(StoreError, match="cannot write"):
        store.put_folder(tmp_path / "m", "p")
    assert store.list("p") == []
    assert any(line.startswith("DELETE") and "uploadId" in line for line in between.requests), "the parts are dropped"


def test_a_conditional_put_whose_answer_was_lost_is_not_a_conflict(faulty):
    """The object was written, the answer never came, and the request made again is refused: the bytes are ours."""
    store, between = faulty
    assert store.creates_atomically
    lost = between.fault("truncate", method="PUT", path="manifest", times=1)
    store.write_once("manifest", DATA)
    assert lost.struck == 1
    assert store.read("manifest") == DATA


def test_a_full_disk_is_said_and_leaves_the_old_object(tmp_path):
    """In a mount namespace of its own, on a file system of one megabyte."""
    program = (
        "import sys; from infra.storage import Store; from torl_core.errors import StoreError\n"
        "store = Store.open(sys.argv[1]); store.write('x', b'old')\n"
        "try: store.write('x', b'n' * (2 << 20))\n"
        "except StoreError as error: print(error)\n"
        "print(store.read('x'), store.list(''))"
    )
    done = run_mounted(f'mount -t tmpfs -o size=1m none "{tmp_path}"', [sys.executable, "-c", program, tmp_path])
    said, left = done.stdout.splitlines()
    assert f"cannot write {tmp_path}/x (OSError" in said
    assert "Free space" in said
    assert left == "b'old' ['x']"
