"""Uploads whose parts come in any order, as MLflow's clients send them: each is kept like a file, and they are put together at
the end.

An upload's id is all there is to know of it: no gateway process has to remember one, so any of them takes a part.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtide_queries.artifacts.tree import CHUNK_BYTES, RESERVED, Tree, wrong_checksum
from runtide_schemas.errors import InvalidRequest, NotFound

MOST_PARTS = 10_000
_BLOCK_BYTES = 4 * CHUNK_BYTES
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that was stored; ``size`` in bytes, ``sha256`` hexadecimal."""

    size: int
    sha256: str


def check_count(count: int) -> int:
    """Return how many parts an upload is to have.

    Raises:
        InvalidRequest: none can have so many.
    """
    if not 1 <= count <= MOST_PARTS:
        raise InvalidRequest(
            f"an upload has 1 to {MOST_PARTS} parts, got {count}; set MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"
        )
    return count


def new_upload(path: str, count: int) -> str:
    """Return the id of a new upload: nobody can guess it, and it fits this path only."""
    nonce = secrets.token_hex(16)
    return f"{nonce}{check_count(count):04x}{_binding(nonce, path, count)}"


def part_path(upload: str, number: int) -> str:
    """Return where a part is kept until the upload is complete.

    Raises:
        InvalidRequest: no upload has such an id or part.
    """
    if _ID.fullmatch(upload) is None or not 1 <= number <= _count(upload):
        raise InvalidRequest(f"there is no part {number} of upload {upload[:64]!r}")
    return f"{RESERVED}/part-{upload}-{number:05d}"


def put_together(tree: Tree, upload: str, path: str, parts: Sequence[tuple[int, str]], most_bytes: int) -> Stored:
    """Store an upload as a file; its parts are forgotten. Blocks.

    Args:
        tree: what has its parts.
        upload: its id.
        path: of the file; checked.
        parts: numbers and tags (SHA-256, or "") of its parts, as the client has them.
        most_bytes: largest file.

    Raises:
        NotFound: there is no such upload of this path, or a part has not come.
        InvalidRequest: not all parts are named, or one has another tag; nothing is stored.
    """
    _check_path(upload, path)
    if sorted(number for number, _ in parts) != list(range(1, _count(upload) + 1)):
        raise InvalidRequest(f"upload {upload} has the parts 1 to {_count(upload)}; each must be named once")
    writing, digest, size = tree.create(path), hashlib.sha256(), 0
    try:
        for number, tag in sorted(parts):
            for chunk in _chunks(tree, upload, number, tag):
                size += len(chunk)
                if size > most_bytes:
                    raise InvalidRequest(
                        f"an artifact has at most {most_bytes} bytes here (RUNTIDE_GATEWAY_ARTIFACT_BYTES)"
                    )
                digest.update(chunk)
                writing.write(chunk)
        writing.keep()
    finally:
        writing.give_up()
    _forget(tree, upload)
    return Stored(size, digest.hexdigest())


def abort(tree: Tree, upload: str, path: str) -> None:
    """Forget an upload. Blocks.

    Raises:
        NotFound: there is none of this path.
    """
    _check_path(upload, path)
    _forget(tree, upload)


def digest_of(tree: Tree, path: str) -> Stored:
    """Return what a file is, which is read whole. Blocks; raises NotFound."""
    found = tree.open(path)
    try:
        digest = hashlib.sha256()
        for offset in range(0, found.size, _BLOCK_BYTES):
            digest.update(found.read(offset, _BLOCK_BYTES))
        return Stored(found.size, digest.hexdigest())
    finally:
        found.close()


def _chunks(tree: Tree, upload: str, number: int, tag: str) -> Iterator[bytes]:
    """Yield a part's bytes; what they come to must have the part's tag."""
    part, digest = tree.open(part_path(upload, number)), hashlib.sha256()
    try:
        for offset in range(0, part.size, _BLOCK_BYTES):
            chunk = part.read(offset, min(_BLOCK_BYTES, part.size - offset))
            digest.update(chunk)
            yield chunk
    finally:
        part.close()
    if tag and tag != digest.hexdigest():
        raise wrong_checksum(f"part {number} of upload {upload}", digest.hexdigest(), tag)


def _forget(tree: Tree, upload: str) -> None:
    for number in range(1, _count(upload) + 1):
        tree.delete(part_path(upload, number))


def _check_path(upload: str, path: str) -> None:
    if _ID.fullmatch(upload) is None or upload[36:] != _binding(upload[:32], path, _count(upload)):
        raise NotFound(f"there is no upload {upload[:64]!r} of {path!r}; begin it again")


def _count(upload: str) -> int:
    return int(upload[32:36], 16)


def _binding(nonce: str, path: str, count: int) -> str:
    return hashlib.sha256(f"{nonce}\0{count}\0{path}".encode()).hexdigest()[:28]
