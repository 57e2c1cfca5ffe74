"""What tests of roots of artifacts share."""

from runtide_queries.artifacts.tree import Tree


def store(tree: Tree, path: str, data: bytes) -> None:
    writing = tree.create(path)
    writing.write(data)
    writing.keep()


def stored(tree: Tree, path: str) -> bytes:
    found = tree.open(path)
    try:
        return found.read(0, found.size)
    finally:
        found.close()


def part(tree: Tree, upload: str, offset: int, data: bytes) -> None:
    writing = tree.append(upload, offset)
    writing.write(data)
    writing.keep()
