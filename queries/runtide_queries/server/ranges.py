"""One range of bytes of an answer (RFC 9110, section 14). Several at once are answered with the whole, as is allowed."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class Unsatisfiable(Exception):
    """The range lies beyond the end."""


def asked_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a ``Range`` header and the one after its last; None when all is to be sent.

    Raises:
        Unsatisfiable: nothing of it exists.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        if (count := min(int(found[2]), size)) == 0:
            raise Unsatisfiable
        return size - count, size
    first = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, end
