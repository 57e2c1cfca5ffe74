"""Removing the files of a purged run, and nothing else: only below the root that is ours, only in a place of that run."""

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runtide.artifacts.uris import for_fsspec, is_proxied, local_path, resolve_proxied
from runtide.connection import as_uri
from runtide_schemas.errors import InvalidRequest, TransientError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed: how many files, and their bytes."""

    files: int
    bytes: int


def place_of_run(root: str, uri: str, run_id: str) -> str:
    """Return the URI of what may be removed for a run; "" when its artifacts are not below the root, or not its own.

    Args:
        root: folder or URI that the stack's artifacts are kept below.
        uri: where the run said that its artifacts are.
        run_id: the run: a part of the path below the root has to be called so.
    """
    base = as_uri(root)
    try:
        found = resolve_proxied(uri, root) if is_proxied(uri) else uri.rstrip("/")
    except InvalidRequest as error:
        log.warning("the files of run %s stay: %s", run_id, error)
        return ""
    if urlsplit(found).query or urlsplit(found).fragment or not found.startswith(f"{base}/"):
        return ""
    parts = unquote(found.removeprefix(f"{base}/")).split("/")
    if run_id not in parts or any(part in {"", ".", ".."} for part in parts):
        return ""
    local, below = local_path(found), local_path(base)
    if local is not None and below is not None and local.resolve() != below.resolve().joinpath(*parts):
        log.warning("the files of run %s stay: %s leads elsewhere by a link", run_id, local)
        return ""
    return found


def remove_files(uri: str) -> Removed:
    """Remove everything at a URI that ``place_of_run`` gave; nothing there is nothing removed. Blocks.

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
