"""The gateway's artifacts below a folder: nothing outside of it is read, written, listed or deleted."""

import os
from pathlib import Path

import pytest

from runtide_queries.artifacts.local_tree import KEPT_SECONDS, LocalTree
from runtide_queries.artifacts.tree import RESERVED, Entry, check_path
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from tests.artifact_trees import part, store, stored


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A local root, with a secret beside it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    LocalTree(tmp_path / "root").prepare()
    return tmp_path / "root"


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a//b", "a/", ".", "..", "a/../b", "../a", "a\\b", "a\0", "a\nb", "c:/a", "file:a", "a\x7f", "\ud800", "a\ufffd",
     "x" * 1001, RESERVED, f"{RESERVED}/x", "%2e%2e/a", "a/%2E%2e", "%252e%252e/a", "..%2fa", "..%252f..%252fa", "%2fa", "%5ca", "..%5ca", "c%3a/a",
     "%252525252e%252e/a"],
)  # fmt: skip
def test_paths_that_no_artifact_has(path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["100%", "a%2eb", "a%2fb", "~", "-rf", "a;b", "a#b?c=d", "CON", "ü/日本", ".hidden", f"a/{RESERVED}"]
)
def test_paths_that_look_odd_are_names_like_others(root: Path, path: str) -> None:
    tree = LocalTree(root)
    store(tree, check_path(path), b"x")
    assert stored(tree, path) == b"x"
    assert (root / path).read_bytes() == b"x"


def test_planted_links_lead_nowhere(root: Path) -> None:
    tree = LocalTree(root)
    (root / "file").symlink_to(root.parent / "secret" / "key")
    (root / "folder").symlink_to(root.parent / "secret", target_is_directory=True)
    (root / "inner").symlink_to(root)
    (root / "run").mkdir()
    (root / "run" / "up").symlink_to("..")
    for path in ("file", "folder/key", "folder", "inner/file", "run/up/file", "run/up"):
        with pytest.raises(NotFound):
            tree.open(path)
        assert tree.entries(path) == []
    assert tree.entries("") == [Entry("run", None)]
    for path in ("folder/new", "run/up/new", "inner/run/new"):
        with pytest.raises(InvalidRequest, match="cannot store"):
            tree.create(path)
    store(tree, "file", b"ours")
    tree.delete("folder")
    tree.delete("run")
    assert (root.parent / "secret" / "key").read_text() == "secret"
    assert [path.name for path in (root.parent / "secret").iterdir()] == ["key"]
    assert not (root / "file").is_symlink()


def test_a_link_that_takes_a_folders_place_while_bytes_come(root: Path) -> None:
    tree = LocalTree(root)
    writing = tree.create("run/key")
    writing.write(b"attack")
    (root / "run").rmdir()
    (root / "run").symlink_to(root.parent / "secret", target_is_directory=True)
    with pytest.raises(InvalidRequest, match="cannot store"):
        writing.keep()
    writing.give_up()
    assert (root.parent / "secret" / "key").read_text() == "secret"
    assert list((root / RESERVED).iterdir()) == []


def test_a_planted_link_in_the_place_of_uploads(root: Path) -> None:
    tree = LocalTree(root)
    (root / RESERVED / ("a" * 64)).symlink_to(root.parent / "secret" / "key")
    with pytest.raises(InvalidRequest):
        tree.append("a" * 64, 0)
    (root / RESERVED / ("a" * 64)).unlink()
    (root / RESERVED).rmdir()
    (root / RESERVED).symlink_to(root.parent / "secret", target_is_directory=True)
    with pytest.raises(InvalidRequest):
        tree.create("a")
    with pytest.raises(InvalidRequest):
        tree.append("a" * 64, 0)
    assert (root.parent / "secret" / "key").read_text() == "secret"


def test_only_regular_files_are_served(root: Path) -> None:
    tree = LocalTree(root)
    os.mkfifo(root / "pipe")
    with pytest.raises(NotFound):
        tree.open("pipe")
    assert tree.entries("") == []


def test_a_folder_is_no_file_and_a_file_no_folder(root: Path) -> None:
    tree = LocalTree(root)
    store(tree, "run/a", b"x")
    with pytest.raises(InvalidRequest, match="folder"):
        tree.create("run")
    with pytest.raises(InvalidRequest, match="cannot store"):
        tree.create("run/a/b")
    with pytest.raises(InvalidRequest):
        tree.create("x" * 300)
    with pytest.raises(InvalidRequest):
        tree.open("x" * 300)


def test_two_requests_do_not_write_to_one_upload(root: Path) -> None:
    tree, upload = LocalTree(root), "b" * 64
    first = tree.append(upload, 0)
    with pytest.raises(TransientError, match="another request"):
        tree.append(upload, 0)
    first.write(b"12")
    first.give_up()
    assert tree.received(upload) == 2, "what came before it broke off is kept"


def test_a_root_that_is_away_is_a_matter_of_time(root: Path) -> None:
    tree = LocalTree(root / "away")
    for call in (
        lambda: tree.open("a"),
        lambda: tree.entries(""),
        lambda: tree.create("a"),
        lambda: tree.received("a" * 64),
    ):
        with pytest.raises(TransientError, match="away cannot be opened"):
            call()
    (root / "file").write_text("")
    with pytest.raises(TransientError):
        LocalTree(root / "file").prepare()


def test_what_was_left_half_done_long_ago_is_cleared(root: Path) -> None:
    tree = LocalTree(root)
    part(tree, "c" * 64, 0, b"new")
    part(tree, "d" * 64, 0, b"old")
    os.utime(root / RESERVED / ("d" * 64), (1, KEPT_SECONDS))
    tree.prepare()
    assert (tree.received("c" * 64), tree.received("d" * 64)) == (3, 0)
