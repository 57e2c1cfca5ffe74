"""The identity of a directory's content, the same on every machine."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from runtide.models.errors import ModelDirectoryError

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file: its path below the directory (with `/`), its size in bytes and its SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


def digest_directory(path: Path | str) -> tuple[str, list[ManifestEntry]]:
    """The SHA-256 (hexadecimal) of a directory's content, and the manifest it is made from.

    The digest is over the lines `path NUL size NUL sha256 LF`, ordered by the UTF-8 bytes of the path. Times, modes,
    owners and empty folders do not count. Raises `ModelDirectoryError` for anything but regular files and folders (a
    link could point to other content later) and for names that are not UTF-8.
    """
    root = Path(path)
    if not root.is_dir():
        raise ModelDirectoryError(f"{root} is not a directory")
    manifest = sorted(_entries(root, ""), key=lambda entry: entry.path.encode())
    digest = hashlib.sha256()
    for entry in manifest:
        digest.update(f"{entry.path}\0{entry.size}\0{entry.sha256}\n".encode())
    return digest.hexdigest(), manifest


def _entries(folder: Path, prefix: str) -> list[ManifestEntry]:
    entries: list[ManifestEntry] = []
    with os.scandir(folder) as children:
        for child in children:
            relative = f"{prefix}{child.name}"
            if not _is_utf8(relative):
                raise ModelDirectoryError(f"{relative!r} in {folder}: a model's file names must be UTF-8")
            if child.is_dir(follow_symlinks=False):
                entries += _entries(Path(child.path), f"{relative}/")
            else:
                entries.append(_entry(child.path, relative))
    return entries


def _entry(path: str, relative: str) -> ManifestEntry:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ModelDirectoryError(
            f"{path}: not a file that can be read ({error.strerror}); links are refused"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelDirectoryError(f"{path}: only regular files may be in a model")
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return ManifestEntry(relative, size, digest.hexdigest())


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
