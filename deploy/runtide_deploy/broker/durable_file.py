"""Small files that are either the old or the new version after a crash, never a mixture."""

import os
from pathlib import Path

from runtide_deploy.broker.checksum import crc32c


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file's content durably: write beside it, sync, rename, sync the folder."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make created, renamed and deleted names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal_line(text: bytes) -> bytes:
    """Return a line of text with its own checksum in front; ``open_line`` takes it apart."""
    return b"%08x %s\n" % (crc32c(text), text)


def open_line(line: bytes) -> bytes | None:
    """Return the text of a sealed line, or None when it is torn or damaged."""
    if len(line) < 10 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    text = line[9:-1]
    return text if line[:8] == b"%08x" % crc32c(text) else None
