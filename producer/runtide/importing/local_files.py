"""Reading what a source's directory holds, which may be anything: nothing outside it, nothing without bounds."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtide.importing.records import Artifact, LeftOut, Record
from runtide_schemas.errors import InvalidRequest

MOST_DOCUMENT_BYTES = 4 * 1024 * 1024
MOST_TEXT_BYTES = 64 * 1024 * 1024
MOST_NODES = 100_000


class Unreadable(Exception):
    """A file is not what it should be; the message says how."""


def is_within(path: Path, *roots: Path) -> bool:
    """Return True when a path, links resolved, lies in one of the roots."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return False
    return any(real.is_relative_to(root.resolve()) for root in roots)


def read_text(path: Path, root: Path, most: int = MOST_TEXT_BYTES) -> str:
    """Return a file's text.

    Raises:
        Unreadable: it lies outside the root, is no regular file or too large; no UTF-8.
    """
    if not is_within(path, root):
        raise Unreadable("a link that leaves the source")
    try:
        if not path.is_file():
            raise Unreadable("no regular file")
        if (size := path.stat().st_size) > most:
            raise Unreadable(f"{size:,} bytes; at most {most:,} are read")
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"no UTF-8 text: {error}") from error
    except OSError as error:
        raise Unreadable(str(error)) from error


def read_yaml(path: Path, root: Path) -> dict[str, Any]:
    """Return a YAML mapping, read without building objects and without aliases, which make bombs of small files.

    Raises:
        Unreadable: as ``read_text``, or it is no such mapping.
    """
    import yaml

    text = read_text(path, root, MOST_DOCUMENT_BYTES)
    try:
        for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent) or count > MOST_NODES:
                raise Unreadable("YAML with aliases, or with too many parts")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"no YAML: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise Unreadable(f"a YAML {type(document).__name__} where a mapping was expected")
    return document


def artifacts_below(directory: Path, roots: tuple[Path, ...], under: str = "") -> Iterator[Record]:
    """Yield the files below a directory as artifacts, and what is none of them as left out."""
    if not directory.is_dir():
        return
    if not is_within(directory, *roots):
        yield LeftOut(f"artifacts in {directory}", "outside of the source")
        return
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted([*names, *(name for name in folders if (Path(folder) / name).is_symlink())]):
            file = Path(folder) / name
            path = f"{under}{file.relative_to(directory).as_posix()}"
            if file.is_symlink() and not is_within(file, *roots):
                yield LeftOut(f"artifact {path!r}", "a link that leaves the source")
            elif not file.is_file():
                yield LeftOut(f"artifact {path!r}", "no regular file")
            else:
                yield Artifact(path=path, at=int(file.stat().st_mtime * 1000), file=file)


def existing(path: str | Path, what: str) -> Path:
    """Return a path that is there.

    Raises:
        InvalidRequest: it is not.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise InvalidRequest(f"cannot import {what}: there is no {str(found)!r}")
    return found


def milliseconds(seconds: float) -> int:
    """Return Unix time in milliseconds, or -1 for what is no time."""
    return round(seconds * 1000) if 0 <= seconds < 253_402_300_800 else -1
