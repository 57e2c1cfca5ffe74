"""The filter and order grammar: MLflow's (``mlflow/utils/search_utils.py``), of which AND is the only connective so far.

``metrics.loss < 0.5 AND params."learning rate" = '0.1' AND tags.team LIKE 'vis%' AND status = 'FINISHED'``
"""

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from runtide_schemas.errors import InvalidRequest

MAX_FILTER_LENGTH = 10_000
MAX_CLAUSES = 50

Entity = Literal["metric", "param", "tag", "attribute"]

_ENTITIES: dict[str, Entity] = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
}
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"[^"]*"|`[^`]*`)
      | (?P<comparator>!=|<>|>=|<=|=|>|<)
      | (?P<word>[\w./-]+)
    )""",
    re.VERBOSE,
)
_TRAILING_KEY = re.compile(r"""\s*("[^"]*"|`[^`]*`)""")
_EXAMPLE = "metrics.loss < 0.5 AND params.optimizer = 'adam'"
_MATCHERS = ("LIKE", "ILIKE")


@dataclass(frozen=True, slots=True)
class Field:
    """What a clause or an order is about: an entity and its key, e.g. ("metric", "loss")."""

    entity: Entity
    key: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison. ``value`` is a float for a number and text for a quoted value."""

    field: Field
    comparator: str
    value: str | float


@dataclass(frozen=True, slots=True)
class Order:
    """One sort term."""

    field: Field
    ascending: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse_filter(text: str) -> tuple[Clause, ...]:
    """Return the clauses of a filter, all of which must hold.

    Raises:
        InvalidRequest: it is not of the grammar; the message names the part.
    """
    if len(text) > MAX_FILTER_LENGTH:
        raise InvalidRequest(f"A filter has at most {MAX_FILTER_LENGTH} characters, got {len(text)}")
    tokens = _tokens(text)
    clauses = []
    while tokens:
        clauses.append(_clause(tokens, text))
        if not tokens:
            break
        joiner = tokens.pop(0)
        if joiner.text.upper() != "AND" or not tokens:
            _invalid(text, f"expected AND and another clause, found {joiner.text!r} (OR and NOT are not supported)")
    if len(clauses) > MAX_CLAUSES:
        raise InvalidRequest(f"A filter has at most {MAX_CLAUSES} clauses, got {len(clauses)}")
    return tuple(clauses)


def parse_order(text: str) -> Order:
    """Return the sort term of e.g. ``metrics.loss DESC``; ascending when not said."""
    tokens = _tokens(text)
    if not tokens:
        _invalid(text, "a sort term is empty")
    field = _field(tokens, text)
    direction = tokens.pop(0).text.upper() if tokens else "ASC"
    if tokens or direction not in {"ASC", "DESC"}:
        _invalid(text, "write order_by as <field> [ASC|DESC], e.g. metrics.loss DESC")
    return Order(field, direction == "ASC")


def _clause(tokens: list[_Token], text: str) -> Clause:
    field = _field(tokens, text)
    if len(tokens) < 2:
        _invalid(text, f"{field.key!r} needs a comparator and a value")
    comparator, value = tokens.pop(0), tokens.pop(0)
    name = comparator.text.upper()
    if comparator.kind != "comparator" and name not in _MATCHERS:
        _invalid(text, f"expected a comparator after {field.key!r}, found {comparator.text!r}")
    return Clause(field, "!=" if name == "<>" else name, _value(value, text))


def _value(token: _Token, text: str) -> str | float:
    if token.kind == "number":
        return float(token.text)
    if token.kind == "text":
        return token.text[1:-1].replace("''", "'")
    if token.kind == "quoted" and token.text[0] == '"':
        return token.text[1:-1]
    return _invalid(text, f"{token.text!r} is no value: write numbers bare and text in single quotes")


def _field(tokens: list[_Token], text: str) -> Field:
    token = tokens.pop(0)
    if token.kind == "quoted":
        return Field("attribute", token.text[1:-1])
    if token.kind != "word":
        _invalid(text, f"expected a field such as metrics.loss, found {token.text!r}")
    entity, dot, key = token.text.partition(".")
    if not dot:
        return Field("attribute", entity)
    if entity.lower() not in _ENTITIES:
        _invalid(text, f"{entity!r} is no entity; use metrics, params, tags or attributes")
    if not key:
        _invalid(text, f"{token.text!r} names no key")
    return Field(_ENTITIES[entity.lower()], key)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            _invalid(text, f"cannot read {text[position : position + 20].strip()!r}")
        kind, found = match.lastgroup, match[match.lastgroup]
        position = match.end()
        if kind == "word" and found.endswith(".") and (key := _TRAILING_KEY.match(text, position)):
            found, position = found + key[1][1:-1], key.end()
        tokens.append(_Token(kind, found))
    return tokens


def _invalid(text: str, why: str) -> NoReturn:
    raise InvalidRequest(f"Invalid clause(s) in {text[:200]!r}: {why}. Write e.g. {_EXAMPLE}")
