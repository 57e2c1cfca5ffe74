"""What can be asked of what: the words of a search, each attribute and each kind of value one row of a table.

The tables themselves are in ``vocabularies.py``. The texts of errors are MLflow's where its clients match on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from runtide_queries.search.grammar import Bare, Clause, Field
from runtide_schemas.errors import InvalidRequest

Kind = Literal["number", "integer", "text"]

NUMERIC = ("=", "!=", ">", ">=", "<", "<=")
TEXT = ("=", "!=", "LIKE", "ILIKE")
TEXT_OR_LIST = (*TEXT, "IN", "NOT IN")
TEXT_OR_NULL = (*TEXT, "IS NULL", "IS NOT NULL")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of the entity itself.

    Attributes:
        expression: SQL of its value.
        kind: number (with NaN), integer, or text.
        comparators: what it can be compared by.
        nullable: whether it can be missing.
        sorted_by: what it is ordered by instead of ``expression``: (expression, cast) pairs, never null.
        whole: whether a number with a fraction is refused rather than compared.
        digits: whether its texts are whole numbers, and others are refused.
    """

    expression: str
    kind: Kind
    comparators: tuple[str, ...]
    nullable: bool = False
    sorted_by: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    digits: bool = False


@dataclass(frozen=True, slots=True)
class Keyed:
    """Rows of another table, told apart by a key: metrics, params, tags.

    Attributes:
        table: where they lie.
        join: SQL that says which rows (``v``) are the entity's.
        column: the column of the value.
        kind: what it is.
        comparators: what it can be compared by.
        latest: where a key has several rows, SQL of the order in which the one that sorts comes first.
        begins: how many first characters of the value are in an index, 0 for none.
        owner: the column that says whose a row is, in this table and in the entity's own; needed with ``begins``.
    """

    table: str
    join: str
    column: str
    kind: Kind
    comparators: tuple[str, ...]
    latest: str = ""
    begins: int = 0
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Related:
    """Rows of another table, of which any may hold: the datasets of a run. ``columns`` are SQL of their texts by key."""

    table: str
    join: str
    columns: Mapping[str, str]
    comparators: tuple[str, ...]


Source = Attribute | Keyed | Related


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Everything that a search for one kind of entity knows.

    Attributes:
        prefixes: what stands before the dot, to the name that MLflow has for it.
        attributes: those that can be filtered by.
        sources: where the others lie, by that name.
        order_attributes: those that can be sorted by.
        order_sources: which of ``sources`` can be sorted by.
        wrong_entity, wrong_comparator, wrong_order: texts for what is not there.
    """

    prefixes: Mapping[str, str]
    attributes: Mapping[str, Attribute]
    sources: Mapping[str, Keyed | Related]
    order_attributes: Mapping[str, Attribute]
    order_sources: tuple[str, ...] = ()
    wrong_entity: str = "Invalid entity type '{entity}'. Valid values are {entities}"
    wrong_comparator: str = "Invalid comparator '{comparator}' not one of '{comparators}'"
    wrong_order: str = "Invalid attribute key '{key}' specified. Valid keys are '{keys}'"

    def entity(self, field: Field) -> str:
        """Return MLflow's name of what a field is of: metric, parameter, tag, attribute, dataset.

        Raises:
            InvalidRequest: there is no such thing here.
        """
        if not field.entity:
            return "attribute"
        found = self.prefixes.get(field.entity.lower())
        if found is None:
            entities = list(dict.fromkeys(self.prefixes.values()))
            raise InvalidRequest(self.wrong_entity.format(entity=field.entity[:100], entities=entities))
        return found

    def source(self, field: Field) -> Source:
        """Return where the values of a filter's field lie.

        Raises:
            InvalidRequest: there is no such field.
        """
        entity = self.entity(field)
        if entity == "attribute":
            found = self.attributes.get(field.key.lower())
            if found is None:
                _unknown("attribute", field, self.attributes)
            return found
        source = self.sources[entity]
        if isinstance(source, Related) and field.key not in source.columns:
            _unknown(entity, field, source.columns)
        return source

    def sorted_source(self, field: Field) -> Attribute | Keyed:
        """Return where the values of a sort term's field lie.

        Raises:
            InvalidRequest: one cannot sort by it.
        """
        entity = self.entity(field)
        if entity == "attribute":
            if (found := self.order_attributes.get(field.key.lower())) is None:
                keys = ", ".join(sorted(self.order_attributes))
                raise InvalidRequest(self.wrong_order.format(key=field.key[:100], keys=keys))
            return found
        source = self.sources[entity]
        if entity not in self.order_sources or isinstance(source, Related):
            raise InvalidRequest(f"Invalid order_by entity: {entity}; sort by {', '.join(self.order_attributes)}")
        return source

    def checked(self, clause: Clause) -> tuple[Source, Any]:
        """Return where a comparison's values lie, and the value as SQL takes it.

        Raises:
            InvalidRequest: the field, the value or the comparator do not go together.
        """
        source, entity = self.source(clause.field), self.entity(clause.field)
        if clause.value is None:
            _check_null(source, entity, clause, self)
            return source, None
        value = _value(source, entity, clause)
        if clause.comparator not in source.comparators:
            raise InvalidRequest(
                self.wrong_comparator.format(
                    comparator=clause.comparator,
                    comparators=", ".join(source.comparators),
                    field=f"{clause.field.entity or 'attributes'}.{clause.field.key[:100]}",
                )
            )
        return source, value


def _unknown(entity: str, field: Field, known: Mapping[str, Any]) -> NoReturn:
    raise InvalidRequest(
        f"Invalid {entity} key '{field.key[:100]}' specified. Valid keys are '{', '.join(sorted(known))}'"
    )


def _check_null(source: Source, entity: str, clause: Clause, words: Vocabulary) -> None:
    if clause.comparator in source.comparators:
        return
    allowed = [f"{name}s" for name, found in words.sources.items() if clause.comparator in found.comparators]
    if not allowed:
        raise InvalidRequest(
            f"Invalid comparison clause. Expected 3 tokens found 2: {clause.comparator} is not known here"
        )
    raise InvalidRequest(
        f"IS NULL / IS NOT NULL is only supported for {' and '.join(allowed).replace('parameters', 'params')}, "
        f"not for '{entity}' '{clause.field.key[:100]}'"
    )


def _value(source: Source, entity: str, clause: Clause) -> Any:
    value, raw, key = clause.value, clause.raw[:100], clause.field.key[:100]
    kind = "text" if isinstance(source, Related) else source.kind
    if kind != "text":
        return _number(source, entity, clause)
    if isinstance(value, tuple):
        if "IN" not in source.comparators:
            raise InvalidRequest(
                f"'{key}' cannot be compared with a list: only some attributes support comparison with a list of quoted string "
                f"values. Expected a quoted string value for {entity}. Got value {raw}"
            )
        return [_digits(source, one) for one in value]
    if isinstance(value, Bare):
        raise InvalidRequest(
            f"Parameter value is either not quoted or unidentified quote types used for string value {raw}. "
            "Use either single or double quotes."
        )
    if not isinstance(value, str):
        wanted = {"attribute": "attributes", "dataset": "dataset attributes"}.get(entity, f"{entity} (e.g. 'my-value')")
        raise InvalidRequest(f"Expected a quoted string value for {wanted}. Got value {raw}")
    return _digits(source, value)


def _number(source: Source, entity: str, clause: Clause) -> int | float:
    value, raw, key = clause.value, clause.raw[:100], clause.field.key[:100]
    if not isinstance(value, int | float):
        of = "metric" if entity == "metric" else f"numeric attribute: {key}"
        raise InvalidRequest(f"Expected numeric value type for {of}. Found {raw}")
    if not isinstance(source, Attribute):
        return float(value)
    if source.whole and isinstance(value, float):
        raise InvalidRequest(
            f"Invalid value for numeric attribute '{key}': '{value}'; it is compared with whole numbers"
        )
    if value == int(value):
        value = int(value)
    if abs(value) > _LARGEST:
        raise InvalidRequest(f"Invalid value for numeric attribute '{key}': {raw} does not fit 64 bits")
    return value


def _digits(source: Source, value: str) -> str:
    if isinstance(source, Attribute) and source.digits:
        if not (value.isascii() and value.isdigit()) or len(value) > 19:
            raise InvalidRequest(f"Invalid experiment ID '{value[:100]}'. Experiment ID must be a valid integer.")
        return str(int(value))
    return value
