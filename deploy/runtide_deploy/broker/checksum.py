"""CRC-32C in hardware, from the extension module of the ``crc32c`` package alone.

The package's own ``__init__`` looks its version up in the installed metadata, which loads the standard library's e-mail
and archive parsers: a tenth of the broker's start and a tenth of its idle memory, for a number nobody reads.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Protocol, cast


class Checksum(Protocol):
    """A checksum over a buffer, perhaps continuing that of the bytes before it."""

    def __call__(self, data: bytes | memoryview, value: int = 0, /) -> int:
        """Return it as an unsigned 32-bit number."""
        ...


def _load() -> Checksum:
    package = find_spec("crc32c")
    extension = PathFinder.find_spec("_crc32c", package.submodule_search_locations if package else None)
    if extension is None or extension.loader is None:
        from crc32c import crc32c as of_package  # another layout of the package: slower to load, the same function

        return cast("Checksum", of_package)
    module = module_from_spec(extension)
    extension.loader.exec_module(module)
    return cast("Checksum", module.crc32c)


crc32c = _load()
