"""A client of server-sent events, as a browser's EventSource reads them (WHATWG HTML, section 9.2.6)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sent:
    """One event. ``id`` is the last one that was told, by this event or before."""

    id: str
    event: str
    data: Any


class Reader:
    """Reads lines; keeps the last id."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms = 0
        self.comments = 0

    def events(self, lines: Iterable[str]) -> Iterator[Sent]:
        """Yield events as their last line comes."""
        identity, event, data = self.last_id, "", list[str]()
        for line in lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                self.last_id = identity
                if data:
                    yield Sent(identity, event, json.loads("\n".join(data)))
                event, data = "", []
            elif not field:
                self.comments += 1
            elif field == "id":
                identity = value
            elif field == "event":
                event = value
            elif field == "data":
                data.append(value)
            elif field == "retry":
                self.retry_ms = int(value)
