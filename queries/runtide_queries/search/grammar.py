"""The filter and order grammar: MLflow's (``mlflow/utils/search_utils.py``), and OR, NOT and parentheses, which it lacks.

``metrics.loss < 0.5 AND (params."learning rate" = '0.1' OR tags.team LIKE 'vis%') AND NOT status = 'FAILED'``

AND binds closer than OR. Text becomes a tree of comparisons here; what can be compared with what is in ``fields.py``.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from runtide_schemas.errors import InvalidRequest

MAX_FILTER_LENGTH = 64_000
MAX_ORDER_LENGTH = 1_000
MAX_CLAUSES = 100
MAX_DEPTH = 20
MAX_LISTED = 1_000

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*')
      | (?P<name>(?:(?P<entity>`\w+`|\w+)\.)?(?P<key>"[^"]*"|`[^`]*`|[\w./:-]+))
      | (?P<comparator>!=|<>|>=|<=|==|=|>|<)
      | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)
_EXAMPLE = "metrics.loss < 0.5 AND params.optimizer = 'adam'"
_WORDS = (("IS", "NOT", "NULL"), ("IS", "NULL"), ("NOT", "IN"), ("IN",), ("LIKE",), ("ILIKE",))
_LONGEST_NUMBER = 400


@dataclass(frozen=True, slots=True)
class Field:
    """What a comparison or an order is about, as it was written: ("metrics", "loss"), or ("", "status") when bare."""

    entity: str
    key: str


@dataclass(frozen=True, slots=True)
class Bare:
    """A word without quotes where a value is expected."""

    text: str


Value = int | float | str | tuple[str, ...] | Bare | None


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison. ``value`` is null after IS NULL and IS NOT NULL; ``raw`` is how it was written."""

    field: Field
    comparator: str
    value: Value = None
    raw: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """The part does not hold; so it is true of what lacks the key that the part compares."""

    part: "Expression"


Expression = Clause | Every | Either | Negation


@dataclass(frozen=True, slots=True)
class Order:
    """One sort term."""

    field: Field
    ascending: bool


def parse_filter(text: str) -> Expression | None:
    """Return the tree of a filter, null when it is blank.

    Raises:
        InvalidRequest: it is not of the grammar, or too long, too deep or of too many comparisons; the message names the part.
    """
    if len(text) > MAX_FILTER_LENGTH:
        raise InvalidRequest(f"A filter has at most {MAX_FILTER_LENGTH} characters, got {len(text)}")
    parser = _Parser(_tokens(text))
    if parser.at_end():
        return None
    found = parser.either(0)
    if not parser.at_end():
        _invalid(parser.here, "join comparisons with AND or OR")
    return found


def parse_order(text: str) -> Order:
    """Return the sort term of e.g. ``metrics.loss DESC``; ascending when not said.

    Raises:
        InvalidRequest: it is no sort term.
    """
    tokens = _tokens(text) if len(text) <= MAX_ORDER_LENGTH else []
    if not tokens or tokens[0].kind != "name" or len(tokens) > 2:
        raise InvalidRequest(
            f"Invalid order_by clause '{text[:200]}'. Could not be parsed: write <field> [ASC|DESC], e.g. metrics.loss DESC"
        )
    direction = tokens[1].word if len(tokens) == 2 else "ASC"
    if direction not in {"ASC", "DESC"}:
        raise InvalidRequest(f"Invalid ordering key in order_by clause '{text[:200]}'; use ASC or DESC")
    return Order(tokens[0].as_field(), direction == "ASC")


def clauses_of(tree: Expression | None) -> Iterator[Clause]:
    """Return the comparisons of a tree."""
    match tree:
        case None:
            return
        case Clause():
            yield tree
        case Negation():
            yield from clauses_of(tree.part)
        case _:
            for part in tree.parts:
                yield from clauses_of(part)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    entity: str = ""
    key: str = ""

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else ""

    def as_field(self) -> Field:
        return Field(self.entity.strip("`"), self.key[1:-1] if self.key[0] in '"`' else self.key)


class _Parser:
    """Reads by descent; ``depth`` counts the open parentheses and NOTs."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._clauses = 0

    def at_end(self) -> bool:
        return self._place == len(self._tokens)

    @property
    def here(self) -> str:
        return "" if self.at_end() else self._tokens[self._place].text

    def either(self, depth: int) -> Expression:
        parts = [self._every(depth)]
        while self._take("OR"):
            parts.append(self._every(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _every(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._take("AND"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _one(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"A filter has at most {MAX_DEPTH} parentheses and NOTs within each other")
        if self._take("NOT"):
            return Negation(self._one(depth + 1))
        if not self._take("("):
            return self._clause()
        inner = self.either(depth + 1)
        if not self._take(")"):
            _invalid(self.here, "a parenthesis is not closed")
        return inner

    def _clause(self) -> Clause:
        self._clauses += 1
        if self._clauses > MAX_CLAUSES:
            raise InvalidRequest(f"A filter has at most {MAX_CLAUSES} comparisons, got more")
        left = self._next("a comparison is missing at the end")
        if left.kind in {"number", "text"}:
            raise InvalidRequest(
                f"Invalid comparison clause. Expected 'Identifier' found '{left.text[:100]}': the field comes first, e.g. {_EXAMPLE}"
            )
        if left.kind != "name":
            _invalid(left.text, "a comparison begins with a field such as metrics.loss")
        comparator = self._comparator(left)
        if comparator.endswith("NULL"):
            return Clause(left.as_field(), comparator)
        if comparator.endswith("IN"):
            raw, listed = self._list(f"{left.text} {comparator}")
            return Clause(left.as_field(), comparator, listed, raw)
        value = self._next(f"{left.text[:100]!r} {comparator} needs a value")
        return Clause(left.as_field(), comparator, _value(value), value.text)

    def _comparator(self, left: _Token) -> str:
        for words in _WORDS:
            if [token.word for token in self._tokens[self._place : self._place + len(words)]] == list(words):
                self._place += len(words)
                return " ".join(words)
        if self.at_end() or self._tokens[self._place].kind != "comparator":
            _invalid(f"{left.text} {self.here}".rstrip(), "it has no comparator")
        found = self._next("").text
        return "!=" if found == "<>" else found

    def _list(self, of: str) -> tuple[str, tuple[str, ...]]:
        if not self._take("("):
            _invalid(of, "write a list of values in parentheses")
        values: list[str] = []
        begin = self._place
        while not self._take(")"):
            token = self._next("a list is not closed")
            if not isinstance(value := _value(token), str):
                raise InvalidRequest(
                    "While parsing a list in the query, expected string value, punctuation, or whitespace, but got different "
                    f"type in list: {token.text[:100]}"
                )
            values.append(value)
            if not self._take(",") and self.here != ")":
                raise InvalidRequest(
                    "While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list."
                )
        if not values:
            raise InvalidRequest(
                "While parsing a list in the query, expected a non-empty list of string values, but got empty list"
            )
        if len(values) > MAX_LISTED:
            raise InvalidRequest(f"A list has at most {MAX_LISTED} values, got {len(values)}")
        return f"({' '.join(token.text for token in self._tokens[begin : self._place])}"[:200], tuple(values)

    def _take(self, text: str) -> bool:
        if self.here.upper() != text:
            return False
        self._place += 1
        return True

    def _next(self, missing: str) -> _Token:
        if self.at_end():
            _invalid(self._tokens[-1].text, missing)
        self._place += 1
        return self._tokens[self._place - 1]


def _value(token: _Token) -> Value:
    match token.kind:
        case "number":
            return _number(token.text)
        case "text":
            return token.text[1:-1].replace("''", "'")
        case "name" if token.text[0] == '"' and not token.entity:
            return token.text[1:-1]
        case "name":
            return Bare(token.text)
        case _:
            return _invalid(token.text, "it is no value: write numbers bare and text in single quotes")


def _number(text: str) -> int | float:
    whole = text.lstrip("+-").isascii() and text.lstrip("+-").isdigit()
    if len(text) > _LONGEST_NUMBER or math.isinf(float(text)):
        raise InvalidRequest(f"The number {text[:40]}… is too large to compare with")
    return int(text) if whole else float(text)


def _tokens(text: str) -> list[_Token]:
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise InvalidRequest(
            "Invalid clause(s) in filter string: it holds a NUL or half a surrogate pair; take that out"
        )
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            _unreadable(text, position)
        kind = match.lastgroup if match["name"] is None else "name"
        tokens.append(_Token(str(kind), match[str(kind)], match["entity"] or "", match["key"] or ""))
        position = match.end()
    return tokens


def _unreadable(text: str, position: int) -> NoReturn:
    rest = text[position : position + 40].strip()
    if rest.startswith(";"):
        raise InvalidRequest(
            f"Search filter contained multiple expression {text[:200]!r}. Provide AND-ed expression list."
        )
    _invalid(rest, "it cannot be read; is a quote not closed?")


def _invalid(part: str, why: str) -> NoReturn:
    raise InvalidRequest(f"Invalid clause(s) in filter string: '{part[:200]}': {why}. Write e.g. {_EXAMPLE}")
