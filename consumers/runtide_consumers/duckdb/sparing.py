"""Keeping pandas out of a process that has no use for it.

pyarrow asks of the first list that it makes an array of whether it is a pandas Series, and loads pandas for that where it is
installed: a projector's first batch waits for half a second, several on a busy machine, and 50 MB stay.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say that there is none; of all else nothing is said."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not looked for here", name=fullname)
        return None


def spare_pandas() -> None:
    """Have pyarrow find that there is no pandas, once and for all. Whoever imports it afterwards gets it, pyarrow's ``to_pandas`` too.

    To be called before other threads import anything; where pandas is loaded already, nothing is left to spare.
    """
    blocker = _NoPandas()
    sys.meta_path.insert(0, blocker)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(blocker)
