"""Which artifact paths are allowed: the same rule for every store, so that none can be left by a path."""

from runtide_schemas.errors import InvalidRequest

MAX_PATH_LENGTH = 1_000


def check_artifact_path(path: str) -> str:
    """Return a relative artifact path with forward slashes, as it was given.

    Raises:
        InvalidRequest: it is empty, absolute, too long, has a ``.``, ``..`` or empty segment, a backslash, a colon, a
            control character, or is no valid Unicode.
    """
    if not isinstance(path, str) or not path:
        raise InvalidRequest(f"Artifact path must be text that is not empty, got {path!r}")
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidRequest(f"Artifact path has {len(path)} characters; the limit is {MAX_PATH_LENGTH}")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise InvalidRequest(
            f"Invalid path {path!r}: an artifact path is relative, without empty, '.' or '..' segments"
        )
    if bad := sorted({character for character in path if _forbidden(character)}):
        raise InvalidRequest(f"Artifact path {path!r} has characters that are not allowed: {bad}")
    return path


def join(directory: str | None, name: str) -> str:
    """Return the checked path of ``name`` in an artifact directory (None or "" is the root)."""
    return check_artifact_path(f"{directory.rstrip('/')}/{name}" if directory else name)


def _forbidden(character: str) -> bool:
    return character in "\\:" or ord(character) < 32 or ord(character) == 127 or "\ud800" <= character <= "\udfff"
