"""The gateway's artifacts below a folder, in S3, Azure and Google Cloud Storage: one contract for all; and the SDK's there."""

import gc
import hashlib
import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import httpx
import pytest

from runtide.artifacts.store import ArtifactStore
from runtide_queries.artifacts.direct import download_url
from runtide_queries.artifacts.local_tree import LocalTree
from runtide_queries.artifacts.object_tree import ObjectTree
from runtide_queries.artifacts.tree import Entry, Tree
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from tests.artifact_trees import part, store, stored
from tests.integration.emulators import running_azure, running_gcs
from tests.integration.s3_double import running_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """An S3 double."""
    with running_s3():
        yield


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Azurite with a container."""
    pytest.importorskip("adlfs")
    with running_azure(tmp_path_factory.mktemp("azure")):
        fsspec.filesystem("abfs").mkdir("bucket")
        yield
        fsspec.filesystem("abfs").clear_instance_cache()


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """fake-gcs-server with a bucket."""
    pytest.importorskip("gcsfs")
    with running_gcs(tmp_path_factory.mktemp("gcs")):
        fsspec.filesystem("gs").mkdir("bucket")
        yield
        fsspec.filesystem("gs").clear_instance_cache()


STORES = {"s3": "s3", "azure": "abfs", "gcs": "gs"}
EMULATED = [pytest.param(name, marks=pytest.mark.slow) for name in ("azure", "gcs")]


@pytest.fixture(params=["folder", "s3", *EMULATED])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """Every kind of root."""
    found: Tree
    if request.param == "folder":
        found = LocalTree(tmp_path / "root")
    else:
        request.getfixturevalue(request.param)
        found = ObjectTree(f"{STORES[request.param]}://bucket/{uuid.uuid4().hex}")
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


@pytest.mark.slow
@pytest.mark.parametrize("store_name", list(STORES))
def test_the_sdk_stores_whole_files_and_no_parts(
    store_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue(store_name)
    sdk = ArtifactStore(f"{STORES[store_name]}://bucket/{uuid.uuid4().hex}")
    (tmp_path / "a 100%.bin").write_bytes(bytes(70 * 2**20))  # more than one part of an upload
    sdk.store_file(tmp_path / "a 100%.bin", "deep")
    assert sdk.read_bytes("deep/a 100%.bin") == bytes(70 * 2**20)
    sdk.store_bytes(b"whole", "kept")

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 60 * 2**20:
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises(TransientError, match="the disk is gone"):
        sdk._store(Broken(bytes(70 * 2**20)), "kept")
    gc.collect()
    assert sdk.read_bytes("kept") == b"whole"
    assert sdk.read_bytes("nothing") is None


@pytest.mark.slow
@pytest.mark.parametrize("store_name", list(STORES))
def test_large_objects_take_parts(store_name: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(store_name)
    tree = ObjectTree(f"{STORES[store_name]}://bucket/{uuid.uuid4().hex}")
    data = b"0123456789" * 4_000_000
    for offset in range(0, len(data), 17_000_000):
        part(tree, "a" * 64, offset, data[offset : offset + 17_000_000])
    tree.complete("a" * 64, "large", len(data), hashlib.sha256(data).hexdigest())
    assert stored(tree, "large") == data
    writing = tree.create("large")
    writing.write(data[::-1])
    writing.give_up()
    gc.collect()
    assert stored(tree, "large") == data


@pytest.mark.slow
@pytest.mark.usefixtures("azure")
def test_azure_takes_the_urls_that_are_signed_for_it() -> None:
    """Azurite checks signatures: what it answers to a signed URL the real store answers, too."""
    files = fsspec.filesystem("abfs")
    files.pipe_file("bucket/signed/grüße & co.txt", b"hello")
    url = download_url(files, "abfs", "bucket/signed/grüße & co.txt", 60)
    assert url
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''gr%C3%BC")
    assert httpx.get(url.replace("sig=", "sig=A"), trust_env=False).status_code == 403
