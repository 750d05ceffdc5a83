import os

import pytest

from torl_core.locations import address_fault, local_path, store_address


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/runs/demo", "/runs/demo"),
        ("/runs//demo/./x/", "/runs/demo/x"),
        ("/runs/../demo", "/runs/../demo"),
        ("file:///runs/demo", "/runs/demo"),
        ("runs/a::b", f"{os.getcwd()}/runs/a::b"),
        ("runs/[1] *?#%20", f"{os.getcwd()}/runs/[1] *?#%20"),
        ("file:x", f"{os.getcwd()}/file:x"),
        ("~/runs", os.path.expanduser("~/runs")),
        ("s3://bucket/x", None),
    ],
)
def test_a_folder_may_have_any_name(address, path):
    assert local_path(address) == path
    assert address_fault(address) is None


@pytest.mark.parametrize(
    "address", ["s3://bucket", "s3://bucket/a/b", "s3://bucket/a/b/", "s3://bucket/a/b//", "s3a://b/x"]
)
def test_addresses_with_and_without_a_slash_at_the_end(address):
    assert store_address(address) == address


@pytest.mark.parametrize(
    ("address", "found", "instead"),
    [
        ("s3://bucket//x", "has a doubled slash", "s3://bucket/x"),
        ("s3://bucket/a//b", "has a doubled slash", "s3://bucket/a/b"),
        ("s3:///bucket/x", "names no bucket", "s3://bucket/x"),
        ("s3://", "names no bucket", "s3://bucket/prefix"),
        ("s3://bucket/a/../b", "has '..' in it", "s3://bucket/a/b"),
        ("s3://bucket/run[1]", "has '[' in it", "s3://bucket/run1"),
        ("s3://bucket/*", "has '*' in it", "s3://bucket"),
        ("s3://bucket/a?versionId=1", "has '?' in it", "s3://bucket/aversionId=1"),
        ("s3://bucket/a::b", "has `::` in it", "s3://bucket/a-b"),
        ("simplecache::s3://bucket/a", "has `::` in it", "s3://bucket/a"),
        ("s3://bucket/a\nb", "has the control character '\\n' in it", "s3://bucket/ab"),
        ("runs/\0", "has a NUL byte in it", ""),
    ],
)
def test_an_address_that_two_commands_would_read_differently_is_refused(address, found, instead):
    what, rule, remedy = address_fault(address)
    assert what == f"store {address!r} {found}"
    assert rule
    assert remedy == (f"Use an address like {instead}" if instead else "Correct the address")
    with pytest.raises(ValueError, match=r"Use an address|Correct"):
        store_address(address)
