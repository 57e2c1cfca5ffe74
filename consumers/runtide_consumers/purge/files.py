"""Removing the files of a purged run and its models, and nothing else: only below the root that is ours, only in their places."""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runtide.artifacts.uris import for_fsspec, is_proxied, local_path, resolve_proxied
from runtide.connection import as_uri
from runtide_schemas.errors import InvalidRequest, TransientError

log = logging.getLogger(__name__)

_RUN_ID = re.compile(r"[0-9a-f]{32}\Z")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed: how many files, and their bytes."""

    files: int
    bytes: int


def check_root(root: str) -> None:
    """Refuse a root of this machine that is not there: what lies nowhere would pass for removed.

    Raises:
        InvalidRequest: it is no folder.
    """
    local = local_path(as_uri(root))
    if local is not None and not local.is_dir():
        raise InvalidRequest(
            f"the artifact root {local} is no folder of this machine, so nothing is purged: name the one that the stack's "
            "artifacts are kept below (--artifacts, RUNTIDE_PURGE_ARTIFACTS)"
        )


def place_of_run(root: str, uri: str, run_id: str) -> str:
    """Return the URI of what may be removed for a run; "" when its artifacts are not below the root, or not its own.

    Args:
        root: folder or URI that the stack's artifacts are kept below.
        uri: where the run said that its artifacts are.
        run_id: the run, 32 hexadecimal digits: the path below the root has to end in it, or in it and ``artifacts``. Any
            other id may be a folder's name by chance, or by malice.
    """
    ends = ([run_id], [run_id, "artifacts"]) if _RUN_ID.match(run_id) else ()
    return _place(root, uri, f"run {run_id}", ends)


def place_of_model(root: str, uri: str, model_id: str) -> str:
    """Return the URI of what may be removed for a logged model; "" when it is not below the root, or not its own.

    Args:
        root: folder or URI that the stack's artifacts are kept below.
        uri: where it was said that its files are.
        model_id: the model, ``m-`` and 32 hexadecimal digits: the path below the root has to end in it below ``models``, or
            in that and ``artifacts``.
    """
    ends = (["models", model_id], ["models", model_id, "artifacts"]) if _MODEL_ID.match(model_id) else ()
    return _place(root, uri, f"logged model {model_id}", ends)


def _place(root: str, uri: str, whose: str, ends: Sequence[list[str]]) -> str:
    base = as_uri(root)
    try:
        found = resolve_proxied(uri, root) if is_proxied(uri) else uri.rstrip("/")
        parsed = urlsplit(found)
    except (InvalidRequest, ValueError, OSError) as error:
        log.warning("the files of %s stay: %s", whose, error)
        return ""
    if parsed.query or parsed.fragment or not found.startswith(f"{base}/"):
        return ""
    parts = unquote(found.removeprefix(f"{base}/")).split("/")
    own = any(parts[-len(end) :] == end for end in ends)
    if not own or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        return ""
    local, below = local_path(found), local_path(base)
    if local is not None and below is not None and local.resolve() != below.resolve().joinpath(*parts):
        log.warning("the files of %s stay: %s leads elsewhere by a link", whose, local)
        return ""
    return found


class Places:
    """Places that are to be removed, asked which of them something else has a share in."""

    def __init__(self, root: str, places: Iterable[str]) -> None:
        self._root = root
        self._keys = {key: place for place in places if (key := self._key(place))}
        self._above = {key[:length] for key in self._keys for length in range(1, len(key))}

    def shared_with(self, uri: str) -> Iterator[str]:
        """Return the places that are what lies at a URI, or that lie below or above it."""
        key = self._key(uri)
        for length in range(1, len(key) + 1):
            if place := self._keys.get(key[:length]):
                yield place
        if key in self._above:
            yield from (place for one, place in self._keys.items() if len(one) > len(key) and one[: len(key)] == key)

    def _key(self, uri: str) -> tuple[str, ...]:
        """Return a place's parts from its store down, links followed; () of what is no place."""
        try:
            found = resolve_proxied(uri, self._root) if is_proxied(uri) else as_uri(uri)
            local, parsed = local_path(found), urlsplit(found)
            if local is not None:
                return ("file", *local.resolve().parts)
        except (InvalidRequest, ValueError, OSError, RuntimeError):  # a loop of links, say: nothing can lie there
            return ()
        return (parsed.scheme, parsed.netloc, *(part for part in unquote(parsed.path).split("/") if part))


def remove_files(uri: str) -> Removed:
    """Remove everything at a URI that ``place_of_run`` or ``place_of_model`` gave; nothing there is nothing removed. Blocks.

    Raises:
        TransientError: the store is away, or will not have it; calling it again removes what is left.
    """
    local = local_path(uri)
    try:
        return _remove_remote(uri) if local is None else _remove_local(local)
    except Exception as error:
        # Every library behind fsspec has errors of its own for being away.
        raise TransientError(f"cannot remove {uri}: {type(error).__name__}: {error}") from error


def _remove_local(folder: Path) -> Removed:
    sizes = []
    for parent, _, names in os.walk(folder):
        sizes += [(Path(parent) / name).lstat().st_size for name in names]
    if folder.exists():
        shutil.rmtree(folder)
        if folder.name == "artifacts":  # as the SDK names it, in a folder of the run, which goes too when it is empty
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
    return Removed(len(sizes), sum(sizes))


def _remove_remote(uri: str) -> Removed:
    import fsspec  # imported late: it costs 60 ms, and local stores do without

    files, path = fsspec.core.url_to_fs(for_fsspec(uri))
    files.invalidate_cache()
    found = files.find(path, detail=True)
    if found:
        files.rm(path, recursive=True)
    return Removed(len(found), sum(int(one.get("size") or 0) for one in found.values()))
