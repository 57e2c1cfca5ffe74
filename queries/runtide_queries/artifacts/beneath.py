"""Opening what lies below a folder and nowhere else: segment by segment, each relative to the one before, no links.

A path is never handed to the system whole, so no link that somebody planted below the root, and no race with one, leads out.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtide_schemas.errors import InvalidRequest, NotFound, TransientError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
_CANNOT_BE = frozenset(
    {errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}
)


@contextlib.contextmanager
def directory(root: Path, segments: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Open a folder below the root for the length of a block; yield its descriptor.

    Args:
        root: may be a link itself; nothing below it may.
        segments: names on the way, none of them ``..``.
        create: make what is missing.

    Raises:
        OSError: there is none, or a segment is no folder.
        TransientError: there is no root.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TransientError(f"the artifact root {root} cannot be opened: {error.strerror}") from error
    try:
        for segment in segments:
            inner = _enter(descriptor, segment, create)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(descriptor: int, segment: str, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(segment, 0o755, dir_fd=descriptor)
    return os.open(segment, _DIRECTORY, dir_fd=descriptor)


def regular_file(folder: int, name: str) -> int:
    """Open a file of a folder to read; return its descriptor.

    Raises:
        OSError: there is none, or it is a link, a folder, a pipe or a device.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "not a regular file", name)


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Translate what goes wrong while ``path`` is read."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise NotFound(f"No such artifact: {path!r}") from error
        raise _other(path, error) from error


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Translate what goes wrong while ``path`` is stored."""
    try:
        yield
    except OSError as error:
        if error.errno in _CANNOT_BE:
            raise InvalidRequest(
                f"cannot store artifact {path!r}: {error.strerror}; a name may be too long, or taken by a folder or file"
            ) from error
        raise _other(path, error) from error


def _other(path: str, error: OSError) -> InvalidRequest | TransientError:
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest(f"Artifact path {path[:100]!r} has a name that is too long for the store")
    return TransientError(f"the artifact store fails at {path!r}: {error.strerror or error}")
