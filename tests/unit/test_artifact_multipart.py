"""Uploads whose parts come in any order: put together whole and as announced, or not at all; on a folder and in an object store."""

import hashlib
import importlib
import sys
import uuid
from pathlib import Path

import pytest

from runtide_queries.artifacts.local_tree import LocalTree
from runtide_queries.artifacts.multipart import (
    MOST_PARTS,
    Stored,
    abort,
    check_count,
    new_upload,
    part_path,
    put_together,
)
from runtide_queries.artifacts.object_tree import ObjectTree
from runtide_queries.artifacts.tree import RESERVED, Tree
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound
from tests.artifact_trees import store, stored

PARTS = [b"a" * 1000, b"b" * 1000, b"c"]
WHOLE = b"".join(PARTS)
MOST = 10_000


@pytest.fixture(params=["folder", "memory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """Both kinds of root."""
    found: Tree = LocalTree(tmp_path) if request.param == "folder" else ObjectTree(f"memory://{uuid.uuid4().hex}")
    found.prepare()
    return found


def assert_nothing_stored(tree: Tree) -> None:
    """fsspec's memory shows a file from its first byte on, unlike any store that keeps something."""
    if isinstance(tree, LocalTree):
        assert tree.entries("run") == []


def tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sent(tree: Tree, path: str = "run/model.bin") -> str:
    """Send all parts, the last one first and one of them twice; return the upload."""
    upload = new_upload(path, len(PARTS))
    store(tree, part_path(upload, 1), b"an attempt that broke off")
    for number in (3, 2, 1):
        store(tree, part_path(upload, number), PARTS[number - 1])
    return upload


def test_parts_in_any_order_become_the_file(tree: Tree) -> None:
    store(tree, "run/model.bin", b"before")
    upload = sent(tree)
    assert stored(tree, "run/model.bin") == b"before"
    found = put_together(tree, upload, "run/model.bin", [(2, tag(PARTS[1])), (1, ""), (3, tag(PARTS[2]))], MOST)
    assert found == Stored(len(WHOLE), tag(WHOLE))
    assert stored(tree, "run/model.bin") == WHOLE
    assert [entry.name for entry in tree.entries(RESERVED)] == []


@pytest.mark.parametrize(
    "parts",
    [[], [(1, ""), (2, "")], [(1, ""), (2, ""), (2, "")], [(1, ""), (2, ""), (4, "")], [(1, "0" * 64), (2, ""), (3, "")],
     [(1, ""), (2, ""), (3, ""), (3, "")]],
)  # fmt: skip
def test_what_is_not_whole_or_not_as_announced_is_not_stored(tree: Tree, parts: list[tuple[int, str]]) -> None:
    upload = sent(tree)
    with pytest.raises(InvalidRequest):
        put_together(tree, upload, "run/model.bin", parts, MOST)
    assert_nothing_stored(tree)
    put_together(tree, upload, "run/model.bin", [(1, ""), (2, ""), (3, "")], MOST)
    assert stored(tree, "run/model.bin") == WHOLE


def test_a_part_that_has_not_come_and_a_file_that_is_too_large(tree: Tree) -> None:
    upload = sent(tree)
    with pytest.raises(InvalidRequest, match="at most 2000 bytes"):
        put_together(tree, upload, "run/model.bin", [(1, ""), (2, ""), (3, "")], 2_000)
    tree.delete(part_path(upload, 2))
    with pytest.raises(NotFound):
        put_together(tree, upload, "run/model.bin", [(1, ""), (2, ""), (3, "")], MOST)
    assert_nothing_stored(tree)


def test_an_upload_is_of_one_path_only_and_can_be_aborted(tree: Tree) -> None:
    upload = sent(tree)
    for other in ("run/other", "run", "model.bin"):
        with pytest.raises(NotFound, match="no upload"):
            put_together(tree, upload, other, [(1, ""), (2, ""), (3, "")], MOST)
        with pytest.raises(NotFound, match="no upload"):
            abort(tree, upload, other)
    abort(tree, upload, "run/model.bin")
    assert tree.entries(RESERVED) == []


def test_ids_and_parts_that_no_upload_has() -> None:
    upload = new_upload("a", 3)
    for wrong, number in ((upload, 0), (upload, 4), (upload[:-1], 1), ("../" + upload[3:], 1), (upload.upper(), 1)):
        if wrong == upload.upper() and wrong == upload:
            continue
        with pytest.raises(InvalidRequest, match="no part"):
            part_path(wrong, number)
    for count in (0, -1, MOST_PARTS + 1):
        with pytest.raises(InvalidRequest, match="1 to 10000 parts"):
            check_count(count)
    assert new_upload("a", 3) != upload


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("s3://b/x", "s3fs", "s3"), ("gs://b/x", "gcsfs", "gcs"), ("abfs://b/x", "adlfs", "azure")],
)
def test_a_store_whose_package_is_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    registry = importlib.import_module("fsspec.registry")

    monkeypatch.setitem(sys.modules, package, None)
    for scheme in ("s3", "gs", "abfs"):
        monkeypatch.delitem(registry._registry, scheme, raising=False)
    with pytest.raises(FatalError, match=rf"runtide\[{extra}\]"):
        ObjectTree(uri)
