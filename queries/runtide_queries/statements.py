"""Named SQL statements from files: ``-- name: get_run`` opens one, ``$name`` is a parameter.

asyncpg wants positions, so ``$run_id`` becomes ``$1``; DuckDB takes names as they are. Statements hold no other ``$``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)
_PARAMETER = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement.

    Attributes:
        name: its name, as in the file.
        text: its text with ``$name`` parameters.
        parameters: the names in order of first use.
        positional: its text with ``$1``-style parameters in that order.
    """

    name: str
    text: str
    parameters: tuple[str, ...]
    positional: str

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of the positions; exactly the statement's parameters must be given."""
        if set(values) != set(self.parameters):
            raise TypeError(f"{self.name} takes {sorted(self.parameters)}, got {sorted(values)}")
        return [values[name] for name in self.parameters]


def parse(source: str) -> dict[str, Statement]:
    """Return the statements of one file's text by name."""
    _, *parts = _NAME.split(source)
    statements = [_statement(name, text) for name, text in zip(parts[::2], parts[1::2], strict=True)]
    if len({statement.name for statement in statements}) != len(statements):
        raise ValueError(f"a statement is named twice: {[statement.name for statement in statements]}")
    return {statement.name: statement for statement in statements}


@cache
def load(file: str) -> Mapping[str, Statement]:
    """Return the statements of ``sql/<file>.sql`` by name."""
    return parse(files("runtide_queries").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8"))


def _statement(name: str, text: str) -> Statement:
    body = text.strip()
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(body)))
    positional = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", body)
    return Statement(name, body, parameters, positional)
