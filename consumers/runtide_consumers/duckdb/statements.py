"""SQL from the named files beside this module: each statement follows a line ``-- name: its_name``."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load_statements(file_name: str) -> Mapping[str, str]:
    """Return the statements of ``sql/<file_name>`` by name.

    Raises:
        ValueError: text precedes the first name, or two statements share one.
    """
    text = files(__package__).joinpath("sql", file_name).read_text(encoding="utf-8")
    before, *parts = _NAME.split(text)
    statements = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))
    if any(line and not line.startswith("--") for line in before.splitlines()) or len(statements) * 2 != len(parts):
        raise ValueError(f"{file_name}: every statement needs a name of its own (-- name: x)")
    return statements
