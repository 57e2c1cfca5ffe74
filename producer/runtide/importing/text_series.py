"""Series of texts: one artifact for each, a JSON object per line."""

import json
from collections.abc import Iterator

from runtide.importing.names import our_name
from runtide.importing.records import Artifact, LeftOut, Record

MOST_CHARACTERS = 64 * 1024 * 1024


class TextSeries:
    """Holds the texts of a run, up to a bound; what is beyond is counted and reported."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lines: dict[str, list[str]] = {}
        self._room = MOST_CHARACTERS
        self._beyond = 0

    def add(self, key: str, step: float, at: int, text: str | list[str]) -> None:
        """Take a text."""
        line = json.dumps({"step": step, "time": at, "text": text})
        if len(line) > self._room:
            self._beyond += 1
            return
        self._room -= len(line)
        self._lines.setdefault(key, []).append(line)

    def records(self, at: int) -> Iterator[Record]:
        """Yield the artifacts, as stored ``at``."""
        for key, lines in self._lines.items():
            data = "".join(f"{line}\n" for line in lines).encode()
            yield Artifact(path=f"{self._directory}/{file_name(key)}.jsonl", at=max(0, at), data=data)
        if self._beyond:
            yield LeftOut(
                f"{self._beyond:,} texts", f"a run's texts have at most {MOST_CHARACTERS:,} characters together"
            )


def file_name(key: str) -> str:
    """Return a name of the source as one that an artifact may have."""
    return our_name(key).replace(":", "_")
