"""Where a subscriber is in a topic: the next offset of each partition, written ``0:17,1:4``."""

import re
from collections.abc import Mapping

from runtide_queries.past.moments import Span
from runtide_schemas.errors import InvalidRequest

BEGINNING, END = "beginning", "end"
MAX_LENGTH = 20_000
Places = Mapping[int, int]
"""Next offset to read, by partition."""
_PLACE = re.compile(r"(\d{1,6}):(\d{1,18})\Z", re.ASCII)
_OFFSET = re.compile(r"\d{1,18}\Z", re.ASCII)


class Gone(Exception):
    """What was asked for is not in the log any more.

    Attributes:
        first: the first places that are.
    """

    def __init__(self, message: str, first: Places) -> None:
        super().__init__(message)
        self.first = first


def places_text(places: Places) -> str:
    """Return places as text."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(places.items()))


def find_places(topic: str, asked: str, spans: Mapping[int, Span]) -> dict[int, int]:
    """Return where reading begins.

    A partition that ``asked`` does not name was added since it was written, and is read from its first record on.

    Parameters:
        asked: ``beginning``, ``end``, places, or the offset in a topic of one partition.
        spans: what each partition holds.

    Raises:
        InvalidRequest: it is nothing of that, or lies after the log's end.
        Gone: it lies before the log's beginning.
    """
    if asked == BEGINNING:
        return {partition: span.begin for partition, span in spans.items()}
    if asked == END:
        return {partition: span.end for partition, span in spans.items()}
    found = dict.fromkeys(spans, 0) | _parsed(topic, asked, spans)
    for partition, offset in found.items():
        span = spans.get(partition)
        if span is None or offset > span.end:
            held = "does not exist" if span is None else f"ends at {span.end}"
            raise InvalidRequest(
                f"{topic}-{partition} {held}, so {offset} is no place in it: was it written for another log? Begin with "
                f"from={BEGINNING} or from={END}"
            )
    check_held(topic, found, {partition: span.begin for partition, span in spans.items()})
    return found


def check_held(topic: str, places: Places, begins: Places) -> None:
    """Refuse places whose records retention has removed.

    Raises:
        Gone: it names them, and those to go on from.
    """
    lost = {partition: begins[partition] for partition, offset in places.items() if offset < begins.get(partition, 0)}
    if lost:
        named = ", ".join(f"{partition}:{places[partition]} (first: {begin})" for partition, begin in lost.items())
        raise Gone(f"{topic} no longer holds {named}: retention has removed it", {**places, **lost})


def _parsed(topic: str, asked: str, spans: Mapping[int, Span]) -> dict[int, int]:
    if len(asked) > MAX_LENGTH:
        raise InvalidRequest(f"A place has at most {MAX_LENGTH} characters, got {len(asked)}")
    if _OFFSET.match(asked):
        if len(spans) != 1:
            raise InvalidRequest(
                f"{topic} has {len(spans)} partitions: give the offset of each, as in 0:17,1:4, not {asked[:40]!r}"
            )
        return {next(iter(spans)): int(asked)}
    parts = [_PLACE.match(part) for part in asked.split(",")]
    found = {int(part[1]): int(part[2]) for part in parts if part is not None}
    if len(found) != len(parts):
        raise InvalidRequest(
            f"{asked[:100]!r} is no place in a topic: give {BEGINNING}, {END}, or the next offset of each partition, as in 0:17,1:4"
        )
    return found
