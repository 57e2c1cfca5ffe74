"""The gateway's artifacts below a folder and in S3: one contract for both."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from runtide_queries.artifacts.local_tree import LocalTree
from runtide_queries.artifacts.object_tree import ObjectTree
from runtide_queries.artifacts.tree import Entry, Tree
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from tests.artifact_trees import part, store, stored
from tests.integration.s3_double import running_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """An S3 double."""
    with running_s3():
        yield


@pytest.fixture(params=["folder", "s3"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """Both kinds of root."""
    found: Tree
    if request.param == "folder":
        found = LocalTree(tmp_path / "root")
    else:
        request.getfixturevalue("s3")
        found = ObjectTree(f"s3://bucket/{uuid.uuid4().hex}")
    found.prepare()
    return found


def test_what_is_stored_is_there_and_replaced_whole(tree: Tree) -> None:
    store(tree, "run/a b%20.txt", b"one")
    first = tree.open("run/a b%20.txt")
    store(tree, "run/a b%20.txt", b"other")
    second = tree.open("run/a b%20.txt")
    assert (second.size, second.read(1, 3)) == (5, b"the")
    assert first.etag != second.etag
    first.close()
    second.close()
    store(tree, "run/deep/c", b"")
    assert stored(tree, "run/deep/c") == b""
    assert tree.entries("run") == [Entry("a b%20.txt", 5), Entry("deep", None)]
    assert tree.entries("run/deep") == [Entry("c", 0)]
    assert tree.entries("") == [Entry("run", None)], "what holds uploads is not seen"


def test_what_is_not_there(tree: Tree) -> None:
    store(tree, "run/a", b"x")
    for path in ("nothing", "run", "run/a/b", "run/nothing"):
        with pytest.raises(NotFound, match=path):
            tree.open(path)
        if path != "run":
            assert tree.entries(path) == []
            tree.delete(path)
    assert tree.entries("run/a") == []
    assert stored(tree, "run/a") == b"x"


def test_what_was_given_up_leaves_no_trace(tree: Tree) -> None:
    store(tree, "run/a", b"before")
    writing = tree.create("run/a")
    writing.write(b"after")
    writing.give_up()
    writing.give_up()
    assert stored(tree, "run/a") == b"before"
    assert tree.entries("run") == [Entry("a", 6)]


def test_files_and_folders_are_deleted(tree: Tree) -> None:
    for path in ("run/a", "run/deep/b", "run/deep/deeper/c", "kept"):
        store(tree, path, b"x")
    tree.delete("run/a")
    assert tree.entries("run") == [Entry("deep", None)]
    tree.delete("run/deep")
    tree.delete("run/deep")
    assert tree.entries("run") == []
    assert stored(tree, "kept") == b"x"


def test_an_upload_in_parts_is_seen_once_it_is_complete(tree: Tree) -> None:
    data, upload = b"0123456789", "f" * 64
    sha256 = hashlib.sha256(data).hexdigest()
    assert tree.received(upload) == 0
    part(tree, upload, 0, data[:4])
    assert tree.received(upload) == 4
    with pytest.raises(InvalidRequest, match="has 4 bytes, not 6"):
        tree.append(upload, 6)
    with pytest.raises(InvalidRequest, match="has 4 bytes, not 10") as refused:
        tree.complete(upload, "run/whole", 10, sha256)
    assert refused.value.code == "RESOURCE_CONFLICT"
    part(tree, upload, 4, data[4:])
    part(tree, upload, 4, data[4:])
    assert tree.entries("") == []
    tree.complete(upload, "run/whole", 10, sha256)
    assert stored(tree, "run/whole") == data
    assert tree.received(upload) == 0
    with pytest.raises(NotFound):
        tree.complete(upload, "run/whole", 10, sha256)


def test_an_upload_with_other_content_than_announced_is_forgotten(tree: Tree) -> None:
    upload = "e" * 64
    part(tree, upload, 0, b"0123")
    with pytest.raises(InvalidRequest, match="nothing was stored"):
        tree.complete(upload, "run/whole", 4, hashlib.sha256(b"4567").hexdigest())
    assert tree.received(upload) == 0
    assert tree.entries("run") == []
    part(tree, upload, 0, b"01234")
    with pytest.raises(InvalidRequest, match="5 bytes"):
        tree.complete(upload, "run/whole", 4, hashlib.sha256(b"0123").hexdigest())
    part(tree, upload, 0, b"0")
    tree.abandon(upload)
    assert tree.received(upload) == 0


def test_an_object_is_seen_by_a_process_that_listed_before(s3: None) -> None:
    root = f"s3://bucket/{uuid.uuid4().hex}"
    tree = ObjectTree(root)
    store(tree, "run/a", b"x")
    assert tree.entries("run") == [Entry("a", 1)]
    elsewhere = fsspec.filesystem("s3", skip_instance_cache=True)
    elsewhere.pipe_file(f"{root}/run/b", b"yz")
    assert tree.entries("run") == [Entry("a", 1), Entry("b", 2)]
    assert stored(tree, "run/b") == b"yz"


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(s3: None) -> None:
    tree = ObjectTree(f"s3://bucket/{uuid.uuid4().hex}")
    store(tree, "a", b"1" * 30_000_000)
    reading = tree.open("a")
    assert reading.read(0, 10) == b"1" * 10
    store(tree, "a", b"2" * 30_000_000)
    with pytest.raises(TransientError, match="store fails"):
        reading.read(25_000_000, 10)
    reading.close()


def test_a_store_that_is_away_is_a_matter_of_time() -> None:
    away = {"endpoint_url": "http://127.0.0.1:1", "key": "x", "secret": "y", "skip_instance_cache": True}
    files = fsspec.filesystem("s3", **away, config_kwargs={"retries": {"max_attempts": 0}})
    files.retries = 1  # of s3fs itself
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsspec.core, "url_to_fs", lambda uri: (files, "bucket"))
        tree = ObjectTree("s3://bucket")
    for call in (lambda: tree.open("a"), lambda: tree.entries(""), lambda: tree.received("a" * 64)):
        with pytest.raises(TransientError, match="store fails"):
            call()
