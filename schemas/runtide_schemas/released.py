"""Every version of every schema that was ever released: what the log, spools and registries may hold.

One file per version, ``released/<Type>.<number>.<fingerprint>.avsc``; none is ever changed or removed. A test checks
that the names say the truth; ``python -m runtide_schemas.release`` adds versions.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

FOLDER: Traversable = files("runtide_schemas").joinpath("released")


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A released version of a type's schema.

    Attributes:
        name: type name.
        number: 1 for the first version, and so on.
        fingerprint: CRC-64-AVRO of the schema, its 8 little-endian bytes.
    """

    name: str
    number: int
    fingerprint: bytes

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.name}.{self.number}.{self.fingerprint.hex()}.avsc"

    def __str__(self) -> str:
        return f"version {self.number} ({self.fingerprint.hex()})"

    def schema(self) -> dict[str, Any]:
        """Return the schema as it was published."""
        schema: dict[str, Any] = json.loads(FOLDER.joinpath(self.file).read_text(encoding="utf-8"))
        return schema


@cache
def releases() -> dict[bytes, Release]:
    """Return all versions by fingerprint, those of a type in the order of their numbers."""
    return {release.fingerprint: release for release in sorted(_found())}


def releases_of(name: str) -> list[Release]:
    """Return the versions of a type, the oldest first."""
    return [release for release in releases().values() if release.name == name]


def _found() -> Iterator[Release]:
    for path in FOLDER.iterdir():
        name, number, fingerprint, suffix = path.name.split(".")
        if suffix == "avsc":
            yield Release(name, int(number), bytes.fromhex(fingerprint))
