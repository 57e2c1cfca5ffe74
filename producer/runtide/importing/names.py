"""Names of a source as names of ours: one rule, the same everywhere, so that a series has the same name in every import.

A name that ``check_key`` takes stays. Otherwise each character that is not allowed becomes ``_``, so does a part between
slashes that is empty, ``.`` or ``..``, the result is cut to 241 characters, and ``-`` with the first 8 hexadecimal digits of
the SHA-256 of the original is put behind: two names never become one. The original is kept in the tag
``runtide.import.name.<these digits>``.
"""

import hashlib
import re

from runtide_schemas.errors import InvalidRequest
from runtide_schemas.limits import MAX_KEY_LENGTH, MAX_TAG_VALUE_LENGTH, check_key

ORIGINAL_NAME_TAG = "runtide.import.name."
_DIGITS = 8
_REFUSED = re.compile(r"[^/\w.\- :]")


def our_name(name: str) -> str:
    """Return the name that a metric, param or tag has with us."""
    try:
        return check_key(name, "Imported")
    except InvalidRequest:
        pass
    parts = _REFUSED.sub("_", name).split("/")
    path = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    if path.startswith(".."):
        path = f"__{path[2:]}"
    return f"{path[: MAX_KEY_LENGTH - _DIGITS - 1]}-{_digits(name)}"


def original_name_tag(name: str) -> tuple[str, str]:
    """Return the tag that keeps a name which was changed.

    Raises:
        InvalidRequest: it is longer than a tag may be.
    """
    storable = name.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    if len(storable) > MAX_TAG_VALUE_LENGTH:
        raise InvalidRequest(f"the name has {len(name)} characters; the limit is {MAX_TAG_VALUE_LENGTH}")
    return ORIGINAL_NAME_TAG + _digits(name), storable


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
