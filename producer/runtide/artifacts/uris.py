"""What an artifact's URI means: a file here, a key of an object store, or a path that a gateway keeps."""

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from runtide.artifacts.paths import check_artifact_path
from runtide.connection import PROXIED_ARTIFACTS, as_uri
from runtide_schemas.errors import InvalidRequest


def local_path(uri: str) -> Path | None:
    """Return the path of a ``file:`` URI, or None for other schemes."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def for_fsspec(uri: str) -> str:
    """Return a URI as fsspec takes it. Object stores have keys, not URLs: percent signs would be part of the name."""
    return uri if uri.startswith(("http:", "https:")) else unquote(uri)


def is_proxied(uri: str) -> bool:
    """Say whether a gateway keeps what lies there."""
    return uri.startswith(PROXIED_ARTIFACTS)


def proxied_path(uri: str) -> str:
    """Return the path below a gateway's root that an ``mlflow-artifacts:`` URI names; "" is the root itself.

    Raises:
        InvalidRequest: it names a gateway, which is not for a URI to choose, or no path that an artifact can have.
    """
    parts = urlsplit(uri)
    if parts.netloc:
        raise InvalidRequest(
            f"{uri!r} names a gateway; say which one with RUNTIDE_GATEWAY, and the artifact by mlflow-artifacts:/PATH"
        )
    if parts.query or parts.fragment:
        raise InvalidRequest(f"{uri!r} has a query or fragment; write '?' and '#' of a name as %3F and %23")
    path = unquote(parts.path).strip("/")
    return check_artifact_path(path) if path else ""


def resolve_proxied(uri: str, root: str) -> str:
    """Return where a gateway that keeps its artifacts below ``root`` keeps those at an ``mlflow-artifacts:`` URI.

    Args:
        uri: the URI.
        root: a folder or a URI of fsspec.

    Raises:
        InvalidRequest: it is no such URI, or leads out of the root, by a link, say.
    """
    path, base = proxied_path(uri), as_uri(root)
    local = local_path(base)
    if local is None:
        return f"{base}/{quote(path)}"
    below = local.resolve()
    found = (below / path).resolve()
    if not found.is_relative_to(below):
        raise InvalidRequest(f"{uri!r} leads out of the artifact root {local}")
    return found.as_uri()
