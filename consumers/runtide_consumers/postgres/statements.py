"""SQL by name: ``-- name: x`` starts a statement, ``$word`` is a parameter, numbered in the order of first appearance."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"\$([a-z]\w*)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement.

    Attributes:
        name: its name in the file.
        sql: text with positional parameters, as asyncpg takes it.
        parameters: names of the parameters, by position.
    """

    name: str
    sql: str
    parameters: tuple[str, ...]


@cache
def statements(file: str) -> dict[str, Statement]:
    """Return the statements of ``sql/<file>.sql`` by name."""
    text = script(file)
    pieces = _NAME.split(text)[1:]
    return {name: _statement(name, body) for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def script(file: str) -> str:
    """Return the text of ``sql/<file>.sql``."""
    return files("runtide_consumers.postgres").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")


def _statement(name: str, body: str) -> Statement:
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(body)))
    numbered = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", body)
    return Statement(name, numbered.strip().removesuffix(";"), parameters)
