"""From a tree and sort terms to one parameterised statement.

Whatever is compared is true or false, never unknown, once a NOT stands before it. Every sort term becomes columns that order
the same way in a statement and in a page token, so a page can start after any row (keyset paging): rows that arrive
meanwhile shift nothing. Missing values come last in both directions, NaN after the numbers.

An order that begins with a metric is read from that metric's index: the page's front are rows that have a number, in the order
of the index and no more of them than the page has room for. Only a page that they do not fill asks for the others.

Which of several exact values is the rarest PostgreSQL does not know: it counts keys and values each by themselves. So the first
``FEW`` rows of each are looked at. If they are all that one has, the page is looked for among them, else in the ordinary way.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtide_queries.search.fields import Attribute, Keyed, Related, Source, Vocabulary
from runtide_queries.search.grammar import Clause, Either, Every, Expression, Negation, Order
from runtide_queries.statements import load

FEW = 500
"""A value that no more rows have is rare: it is found, and all else then looked up, sooner than a page is read in its order."""
_MOST_EXACT = 5
SORTED_CHARACTERS = 256
"""So much of a text counts in an order: a page token holds it."""

_TYPES: dict[str, tuple[type, ...]] = {"float8": (int, float), "text": (str,), "int": (int,), "int8": (int,)}
_OPERATORS = {"IN": "= ANY", "NOT IN": "<> ALL"}
_CASTS = {"number": "float8", "integer": "int8", "text": "text"}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column of the order: an SQL expression, the type of its argument, its direction, whether it can be null (then last)."""

    expression: str
    cast: str
    ascending: bool
    nullable: bool = False

    @property
    def python_types(self) -> tuple[type, ...]:
        """What a page token may hold for it."""
        return (*_TYPES[self.cast], type(None)) if self.nullable else _TYPES[self.cast]

    def ordered(self, expression: str) -> str:
        """Return the sort term for ``expression``."""
        return f"{expression} {'ASC' if self.ascending else 'DESC'}{' NULLS LAST' if self.nullable else ''}"

    def equal(self, value: str | None) -> str:
        """Return the condition that a row has the bound value, or none."""
        return f"{self.expression} IS NULL" if value is None else f"{self.expression} = {value}"

    def later(self, value: str | None) -> str:
        """Return the condition that a row comes after those with the bound value, or with none."""
        if value is None:
            return "false"
        test = f"{self.expression} {'>' if self.ascending else '<'} {value}"
        return f"({test} OR {self.expression} IS NULL)" if self.nullable else test


@dataclass(frozen=True, slots=True)
class Front:
    """A number by which rows are sorted before all else: its SQL, its direction, and the bound place where a later page begins.

    ``begins`` is None on the first page, and ``false`` where all rows with a number are on pages before.
    """

    value: str
    ascending: bool
    begins: str | None = None

    @property
    def condition(self) -> str:
        """Return the condition that a row has a number; NaN is greater than all of them to PostgreSQL."""
        number = f"{self.value} < 'NaN'::float8"
        return number if self.begins is None else f"{number} AND {self.begins}"

    @property
    def others(self) -> str:
        """Return the condition that it has none."""
        return f"({self.value} IS NULL OR {self.value} = 'NaN'::float8)"

    def starting(self, rank: Any, bound: str | None) -> "Front":
        """Return the front of a page that begins after a row with the bound number, if its rank says that it is one."""
        if rank != 0:
            return Front(self.value, self.ascending, "false")
        return Front(self.value, self.ascending, f"{self.value} {'>=' if self.ascending else '<='} {bound}")


@dataclass(slots=True)
class Query:
    """A statement being put together. Values are only ever added through ``bind``.

    Attributes:
        words: what the search knows.
        narrowed: further SQL that a row of a source must meet to count, by the source's name.
        front: the number that the first two of ``keys`` stand for, when it can be read in the order of an index.
        exact: the first few values that a row must have exactly and that an index finds: where it lies, the comparison, the value.
    """

    words: Vocabulary
    arguments: list[Any] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    keys: list[SortKey] = field(default_factory=list)
    narrowed: dict[str, str] = field(default_factory=dict)
    front: Front | None = None
    exact: list[tuple[Keyed, Clause, Any]] = field(default_factory=list)

    def bind(self, value: Any, cast: str) -> str:
        """Add an argument and return its placeholder."""
        self.arguments.append(value)
        return f"${len(self.arguments)}::{cast}"

    def where(self, tree: Expression | None) -> None:
        """Require a filter. What lacks the key that a comparison names does not meet it; of NaN only ``!=`` is true."""
        if isinstance(tree, Every):
            for part in tree.parts:
                self.where(part)
        elif tree is not None:
            self.conditions.append(condition(self, tree))
            if isinstance(tree, Clause):
                self._note_exact(tree)

    def _note_exact(self, clause: Clause) -> None:
        source, value = self.words.checked(clause)
        if isinstance(source, Keyed) and source.begins and clause.comparator == "=" and len(self.exact) < _MOST_EXACT:
            self.exact.append((source, clause, value))

    def exists(self, source: Keyed | Related, *tests: str) -> str:
        """Return the condition that one of a source's rows meets all tests."""
        met = " AND ".join((source.join, *tests))
        return f"EXISTS (SELECT 1 FROM {source.table} v WHERE {met})"  # noqa: S608  # fixed names, bound values

    def order(self, order: Order, narrowed: Sequence[str] = ()) -> None:
        """Sort by a term, after those before it; only rows that meet ``narrowed`` count, where a key has several."""
        source = self.words.sorted_source(order.field)
        if isinstance(source, Attribute):
            self._order_by_attribute(source, order.ascending)
        else:
            value = self._joined(source, order.field.key, narrowed)
            if source.kind == "number" and not source.latest and not self.keys:
                self.front = Front(value, order.ascending)
            self._order_by_value(value, source.kind, order.ascending, nullable=True)

    def order_by(self, expression: str, cast: str, ascending: bool = True) -> None:
        """Sort by a column that is never null, e.g. to make the order total."""
        self.keys.append(SortKey(expression, cast, ascending))

    def after(self, values: Sequence[Any]) -> None:
        """Start behind the row whose sort keys are ``values``."""
        bound = [
            None if value is None else self.bind(value, key.cast) for key, value in zip(self.keys, values, strict=True)
        ]
        branches = []
        for index, key in enumerate(self.keys):
            equal = [before.equal(bound[at]) for at, before in enumerate(self.keys[:index])]
            branches.append("(" + " AND ".join([*equal, key.later(bound[index])]) + ")")
        self.conditions.append("(" + " OR ".join(branches) + ")")
        if self.front:
            self.front = self.front.starting(values[0], bound[1])

    def text(self, file: str, name: str, page_size: int, more: Mapping[str, str] | None = None) -> str:
        """Return the statement ``name`` of ``sql/<file>.sql`` for a page of that size; ``more`` fills its other marks."""
        statements = load(file)
        size = self.bind(page_size, "int8")
        pages = statements[f"{name}_page"].text
        page, before = self._ordinary_page(pages, size)
        if len(self.exact) > 1:
            page, before = self._page_among_few(pages, size)
        page_order = ", ".join(key.ordered(f"page.sort_{at}") for at, key in enumerate(self.keys))
        return _filled(
            statements[name].text, {"before": before, "page": page, "page_order": page_order, **(more or {})}
        )

    def _ordinary_page(self, pages: str, size: str, gate: Sequence[str] = ()) -> tuple[str, str]:
        """Return the statement that finds a page's rows if ``gate`` holds, and what stands before it."""
        conditions = [*self.conditions, *gate]
        if not self.front:
            return _filled(pages, self._page_marks(self.keys, conditions, size)), ""
        number = [SortKey("0", "int", True), SortKey(self.front.value, "float8", self.front.ascending)]
        keys = [*number, *self.keys[2:]]
        first = _filled(pages, self._page_marks(keys, [*conditions, self.front.condition], size, sorted_from=1))
        room = f"{size} - (SELECT count(*) FROM front)"  # noqa: S608  # fixed names, bound values
        rest = _filled(pages, self._page_marks(self.keys, [*conditions, self.front.others], room))
        return f"SELECT * FROM front\nUNION ALL\n({rest})", f"front AS MATERIALIZED (\n{first}\n),\n"  # noqa: S608  # as above

    def _page_among_few(self, pages: str, size: str) -> tuple[str, str]:
        """Return the same for a search by several exact values: among the rows of the first that few have, if there is one."""
        most = self.bind(FEW, "int8")
        looked_at = [
            f"few_{at} AS MATERIALIZED ({_owners(self, *exact)} LIMIT {most} + 1),\n"
            for at, exact in enumerate(self.exact)
        ]
        full = [f"(SELECT count(*) FROM few_{at}) > {most}" for at in range(len(self.exact))]  # noqa: S608  # as above
        chosen = [
            f"SELECT * FROM few_{at} WHERE {' AND '.join([*full[:at], f'NOT {one}'])}"  # noqa: S608  # as above
            for at, one in enumerate(full)
        ]
        among = f"r.{self.exact[0][0].owner} = ANY (ARRAY({' UNION ALL '.join(chosen)}))"
        conditions = [*self.conditions, f"NOT ({' AND '.join(full)})", among]
        rare = _filled(pages, self._page_marks(self.keys, conditions, size))
        common, before = self._ordinary_page(pages, size, full)
        return f"({rare})\nUNION ALL\n({common})", "".join([*looked_at, before])

    def _page_marks(
        self, keys: Sequence[SortKey], conditions: Sequence[str], size: str, sorted_from: int = 0
    ) -> dict[str, str]:
        """Return what fills the statement that finds a page's rows."""
        return {
            "sort_keys": "".join(f", {key.expression} AS sort_{at}" for at, key in enumerate(keys)),
            "joins": "\n    ".join(self.joins),
            "conditions": " AND ".join(conditions) or "true",
            "order": ", ".join(key.ordered(key.expression) for key in keys[sorted_from:]),
            "page_size": size,
        }

    def _joined(self, source: Keyed, key: str, narrowed: Sequence[str]) -> str:
        name = f"o{len(self.joins)}"
        wanted = " AND ".join((source.join, f"v.key = {self.bind(key, 'text')}", *narrowed))
        first = f" ORDER BY {source.latest} LIMIT 1" if source.latest else ""
        rows = f"SELECT v.{source.column} FROM {source.table} v WHERE {wanted}{first}"  # noqa: S608  # fixed names, bound values
        self.joins.append(f"LEFT JOIN LATERAL ({rows}) {name} ON true")
        return f"{name}.{source.column}"

    def _order_by_attribute(self, source: Attribute, ascending: bool) -> None:
        if source.sorted_by:
            self.keys += [SortKey(expression, cast, ascending) for expression, cast in source.sorted_by]
        else:
            self._order_by_value(source.expression, source.kind, ascending, source.nullable)

    def _order_by_value(self, value: str, kind: str, ascending: bool, nullable: bool) -> None:
        if kind == "number":
            nan = f"{value} = 'NaN'::float8"
            self.order_by(f"CASE WHEN {value} IS NULL THEN 2 WHEN {nan} THEN 1 ELSE 0 END", "int")
            self.order_by(f"CASE WHEN {value} IS NULL OR {nan} THEN 0 ELSE {value} END", "float8", ascending)
        elif kind == "text":
            cut = f'left({value}, {SORTED_CHARACTERS}) COLLATE "C"'
            self.keys.append(SortKey(cut, "text", ascending, nullable))
        else:
            self.keys.append(SortKey(value, "int8", ascending, nullable))


def _filled(text: str, marks: Mapping[str, str]) -> str:
    for mark, sql in marks.items():
        text = text.replace(f"/*{mark}*/", sql)
    return text


def condition(query: Query, tree: Expression) -> str:
    """Return a filter as SQL, its values bound."""
    return _NODES[type(tree)](query, tree)


def _clause(query: Query, clause: Clause) -> str:
    source, value = query.words.checked(clause)
    return _SOURCES[type(source)](query, source, clause, value)


def _every(query: Query, tree: Every) -> str:
    return _joined(" AND ", query, tree.parts)


def _either(query: Query, tree: Either) -> str:
    return _joined(" OR ", query, tree.parts)


def _negation(query: Query, tree: Negation) -> str:
    return f"(({condition(query, tree.part)}) IS NOT TRUE)"


def _joined(joiner: str, query: Query, parts: Iterable[Expression]) -> str:
    return "(" + joiner.join(condition(query, part) for part in parts) + ")"


def _of_attribute(query: Query, source: Attribute, clause: Clause, value: Any) -> str:
    if isinstance(value, float):
        return f"{source.expression}::float8 {clause.comparator} {query.bind(value, 'float8')}"
    return _test(query, source.expression, clause.comparator, value, _CASTS[source.kind])


def _of_keyed(query: Query, source: Keyed, clause: Clause, value: Any) -> str:
    if value is None:
        found = query.exists(source, *_key_tests(query, clause))
        return f"NOT {found}" if clause.comparator == "IS NULL" else found
    return query.exists(source, *_keyed_tests(query, source, clause, value))


def _keyed_tests(query: Query, source: Keyed, clause: Clause, value: Any) -> list[str]:
    """Return what a row of a source must meet to have the value under its key."""
    column = f"v.{source.column}"
    tests = _key_tests(query, clause)
    tests.append(_test(query, column, clause.comparator, value, _CASTS[source.kind]))
    if source.begins and clause.comparator == "=":
        begins = query.bind(value[: source.begins], "text")
        tests.append(f"left({column}, {source.begins}) = {begins}")
    if source.kind == "number" and clause.comparator != "!=":
        tests.append(f"{column} <> 'NaN'::float8")
    return tests


def _owners(query: Query, source: Keyed, clause: Clause, value: Any) -> str:
    """Return the statement that says who has the value under its key."""
    tests = " AND ".join(_keyed_tests(query, source, clause, value))
    return f"SELECT v.{source.owner} FROM {source.table} v WHERE {tests}"  # noqa: S608  # fixed names, bound values


def _key_tests(query: Query, clause: Clause) -> list[str]:
    key = f"v.key = {query.bind(clause.field.key, 'text')}"
    entity = query.words.entity(clause.field)
    return [key, query.narrowed[entity]] if entity in query.narrowed else [key]


def _of_related(query: Query, source: Related, clause: Clause, value: Any) -> str:
    return query.exists(source, _test(query, source.columns[clause.field.key], clause.comparator, value, "text"))


def _test(query: Query, expression: str, comparator: str, value: Any, cast: str) -> str:
    if isinstance(value, list):
        return f"{expression} {_OPERATORS[comparator]} ({query.bind(value, f'{cast}[]')})"
    return f"{expression} {comparator} {query.bind(value, cast)}"


_NODES: Mapping[type, Callable[[Query, Any], str]] = {
    Clause: _clause,
    Every: _every,
    Either: _either,
    Negation: _negation,
}
_SOURCES: Mapping[type[Source], Callable[[Query, Any, Clause, Any], str]] = {
    Attribute: _of_attribute,
    Keyed: _of_keyed,
    Related: _of_related,
}
