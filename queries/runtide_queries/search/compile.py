"""From clauses and sort terms to one parameterised statement.

Every sort term becomes two columns that are never null, a class (0 a value, 1 NaN, 2 missing) and the value, so missing values
come last in both directions and a page can start after any row (keyset paging): rows that arrive meanwhile shift nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtide_queries.search.fields import CASTS, SOURCES, attribute, kind_of, operator
from runtide_queries.search.grammar import Clause, Field, Order
from runtide_queries.statements import load

_TYPES: dict[str, tuple[type, ...]] = {"float8": (int, float), "text": (str,), "int": (int,), "int8": (int,)}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column of the order: an SQL expression that is never null, the type of its argument and its direction."""

    expression: str
    cast: str
    ascending: bool

    @property
    def python_types(self) -> tuple[type, ...]:
        """What a page token may hold for it."""
        return _TYPES[self.cast]


@dataclass(slots=True)
class Query:
    """A statement being put together. Values are only ever added through ``bind``."""

    arguments: list[Any] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    keys: list[SortKey] = field(default_factory=list)

    def bind(self, value: Any, cast: str) -> str:
        """Add an argument and return its placeholder."""
        self.arguments.append(value)
        return f"${len(self.arguments)}::{cast}"

    def where(self, clause: Clause) -> None:
        """Require a clause. A comparison with a key that a run lacks is false; with NaN, only ``!=`` is true."""
        sql = operator(clause.field, clause.comparator, clause.value)
        value = self.bind(clause.value, CASTS[kind_of(clause.field)])
        if clause.field.entity == "attribute":
            self.conditions.append(f"{attribute(clause.field)[0]} {sql} {value}")
            return
        source = SOURCES[clause.field.entity]
        key = self.bind(clause.field.key, "text")
        test = f"v.{source.column} {sql} {value}"
        if source.kind == "number" and sql != "!=":
            test += f" AND v.{source.column} <> 'NaN'::float8"
        self.conditions.append(
            f"EXISTS (SELECT 1 FROM {source.table} v WHERE v.run_id = r.run_id AND v.key = {key} AND {test})"  # noqa: S608  # fixed names, bound values
        )

    def order(self, order: Order) -> None:
        """Sort by a term, after those before it."""
        expression, kind = self._sorted_value(order.field), kind_of(order.field)
        if kind == "number":
            nan = f"{expression} = 'NaN'::float8"
            self._key(f"CASE WHEN {expression} IS NULL THEN 2 WHEN {nan} THEN 1 ELSE 0 END", "int", True)
            self._key(
                f"CASE WHEN {expression} IS NULL OR {nan} THEN 0 ELSE {expression} END", "float8", order.ascending
            )
            return
        self._key(f"CASE WHEN {expression} IS NULL THEN 2 ELSE 0 END", "int", True)
        empty, cast = ("''", "text") if kind == "text" else ("0", "int8")
        collation = ' COLLATE "C"' if kind == "text" else ""
        self._key(f"coalesce({expression}, {empty}){collation}", cast, order.ascending)

    def order_by_id(self) -> None:
        """Make the order total."""
        self._key('r.run_id COLLATE "C"', "text", True)

    def after(self, values: Sequence[Any]) -> None:
        """Start behind the row whose sort keys are ``values``."""
        bound = [self.bind(value, key.cast) for key, value in zip(self.keys, values, strict=True)]
        branches = []
        for index, key in enumerate(self.keys):
            equal = [f"{before.expression} = {bound[at]}" for at, before in enumerate(self.keys[:index])]
            later = f"{key.expression} {'>' if key.ascending else '<'} {bound[index]}"
            branches.append("(" + " AND ".join([*equal, later]) + ")")
        self.conditions.append("(" + " OR ".join(branches) + ")")

    def text(self, page_size: int) -> str:
        """Return the statement for a page of that size."""
        directions = [f"{'ASC' if key.ascending else 'DESC'}" for key in self.keys]
        marks = {
            "sort_keys": "".join(f", {key.expression} AS sort_{at}" for at, key in enumerate(self.keys)),
            "joins": "\n    ".join(self.joins),
            "conditions": " AND ".join(self.conditions) or "true",
            "order": ", ".join(f"{key.expression} {way}" for key, way in zip(self.keys, directions, strict=True)),
            "page_size": self.bind(page_size, "int8"),
            "page_order": ", ".join(f"page.sort_{at} {way}" for at, way in enumerate(directions)),
        }
        text = load("runs")["search_runs"].text
        for mark, sql in marks.items():
            text = text.replace(f"/*{mark}*/", sql)
        return text

    def _sorted_value(self, of: Field) -> str:
        if of.entity == "attribute":
            return attribute(of)[0]
        source, name = SOURCES[of.entity], f"o{len(self.joins)}"
        key = self.bind(of.key, "text")
        self.joins.append(f"LEFT JOIN {source.table} {name} ON {name}.run_id = r.run_id AND {name}.key = {key}")
        return f"{name}.{source.column}"

    def _key(self, expression: str, cast: str, ascending: bool) -> None:
        self.keys.append(SortKey(expression, cast, ascending))
