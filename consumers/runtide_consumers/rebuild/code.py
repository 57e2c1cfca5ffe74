"""Which code folds: a hash that tells it from any other, so that one store is not folded by two."""

import hashlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_PACKAGES = ("runtide_consumers", "runtide_schemas")
_CODE = (".py", ".sql", ".avsc")


def hash_of_code(code: Sequence[str] = ()) -> str:
    """Return a hash of our code that folds, as it lies on the disk now, and of these modules or packages beside it."""
    return _hash((*_PACKAGES, *code)).hex()


def number_of_code(code: Sequence[str]) -> int:
    """Return a number of 63 bits that tells the code of these modules or packages, and of no other, from any other."""
    return int.from_bytes(_hash(code)[:8]) >> 1


def _hash(packages: Sequence[str]) -> bytes:
    hashed = hashlib.sha256()
    for package in packages:
        for name, content in _code_of(package):
            hashed.update(f"{package}/{name}\0{len(content)}\0".encode() + content)
    return hashed.digest()


def _code_of(module: str) -> Iterator[tuple[str, bytes]]:
    found = import_module(module)
    if hasattr(found, "__path__"):
        yield from _code(files(module))
    elif found.__file__:
        yield "", Path(found.__file__).read_bytes()


def _code(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _code(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_CODE):
            yield f"{path}{entry.name}", entry.read_bytes()
