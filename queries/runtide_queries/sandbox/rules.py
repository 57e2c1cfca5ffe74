"""What a user's statement may be, decided from DuckDB's own parse of it: allow-lists, so that what is new is refused.

The locked configuration and the process limits hold even where these rules err; the rules give the clear messages.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

TABLE_FUNCTIONS = frozenset(
    {"generate_series", "histogram", "histogram_values", "json_each", "json_tree", "range", "repeat_row", "unnest"}
)
QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
CATALOGUE = frozenset({("information_schema", "tables"), ("information_schema", "columns")})
SYSTEM_PREFIXES = ("duckdb_", "pragma_", "sqlite_", "pg_", "which_secret", "information_schema")
"""DuckDB's own views and functions: a subquery of that name elsewhere must not make them pass (names have scopes)."""
SHOWN = frozenset({'"tables"', "__show_tables_expanded"})
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?(?=\S)", re.IGNORECASE)
_ALLOWED = "one SELECT, EXPLAIN SELECT, DESCRIBE, SUMMARIZE or SHOW TABLES"


class Refused(Exception):
    """The statement may not run; the message says which part of it."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the snapshot holds: the names of its tables and views, in lower case."""

    tables: frozenset[str]


@cache
def functions() -> frozenset[str]:
    """Return the names of functions and operators that may be called, in lower case."""
    text = files("runtide_queries").joinpath("sandbox", "functions.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


def check(connection: Any, sql: str, catalogue: Catalogue) -> None:
    """Let a statement pass or raise.

    Parameters:
        connection: a locked DuckDB connection, which parses; nothing of the statement is run here.

    Raises:
        Refused: it is not one statement of an allowed kind, or names what it may not.
    """
    tree = _parsed(connection, _selected(connection, sql))
    names = _names_of_subqueries(tree)
    for node in _nodes(tree):
        _check_node(node, catalogue, names)


def _selected(connection: Any, sql: str) -> str:
    """Return the SELECT inside an EXPLAIN, or the statement itself."""
    if "\x00" in sql:
        raise Refused("it contains a NUL character; some parsers end there and others go on")
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise Refused(f"give {_ALLOWED}; found {len(statements)} statements")
    kind = statements[0].type.name
    if kind == "SELECT":
        return sql
    if kind == "EXPLAIN" and (prefix := _EXPLAIN.match(sql)):
        return sql[prefix.end() :]
    raise Refused(f"{kind} is not allowed; give {_ALLOWED}")


def _parsed(connection: Any, sql: str) -> Any:
    row = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone()
    found = orjson.loads(row[0])
    if found["error"]:
        raise Refused(f"{found.get('error_message', 'it cannot be parsed')}; give {_ALLOWED}")
    if len(found["statements"]) != 1:
        raise Refused(f"give {_ALLOWED}; found {len(found['statements'])} statements")
    return found["statements"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the tree; a stack and no recursion, since statements may be deep."""
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _names_of_subqueries(tree: Any) -> frozenset[str]:
    maps = (node["cte_map"]["map"] for node in _nodes(tree) if "cte_map" in node)
    named = {str(entry["key"]).lower() for entries in maps for entry in entries}
    return frozenset(named | {str(node["cte_name"]).lower() for node in _nodes(tree) if node.get("cte_name")})


def _check_node(node: dict[str, Any], catalogue: Catalogue, subqueries: frozenset[str]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERY_NODES:
        raise Refused(f"{kind.removesuffix('_NODE')} is not allowed; give {_ALLOWED}")
    if kind == "BASE_TABLE":
        _check_table(node, catalogue, subqueries)
    elif kind == "SHOW_REF":
        _check_shown(node, catalogue)
    elif kind == "TABLE_FUNCTION":
        _check_table_function(node)
    elif node.get("function_name") and node.get("class") in {"FUNCTION", "WINDOW"}:
        _check_function(node)


def _check_table(node: dict[str, Any], catalogue: Catalogue, subqueries: frozenset[str]) -> None:
    catalog, schema, table = (
        str(node.get(part) or "").lower() for part in ("catalog_name", "schema_name", "table_name")
    )
    if not catalog and (schema, table) in CATALOGUE:
        return
    if table.startswith(SYSTEM_PREFIXES):
        raise Refused(f"{table!r} is a name of DuckDB's own; give the subquery another")
    if not catalog and schema in {"", "main"} and (table in catalogue.tables or (not schema and table in subqueries)):
        return
    name = ".".join(filter(None, (catalog, schema, table)))
    raise Refused(f"there is no table {name!r} here; the tables are {', '.join(sorted(catalogue.tables))}")


def _check_shown(node: dict[str, Any], catalogue: Catalogue) -> None:
    if node.get("query") or node.get("table_name") in SHOWN:
        return
    if node.get("catalog_name") or str(node.get("table_name")).lower() not in catalogue.tables:
        raise Refused(f"SHOW {node.get('table_name')} is not allowed; SHOW TABLES and DESCRIBE <table> are")


def _check_table_function(node: dict[str, Any]) -> None:
    function = node["function"]
    name = str(function.get("function_name", "")).lower()
    if name not in TABLE_FUNCTIONS or function.get("catalog"):
        raise Refused(f"table function {name}() is not allowed; these are: {', '.join(sorted(TABLE_FUNCTIONS))}")


def _check_function(node: dict[str, Any]) -> None:
    name = str(node["function_name"]).lower()
    if (name not in functions() and name not in TABLE_FUNCTIONS) or node.get("catalog"):
        raise Refused(f"function {name}() is not allowed here")
