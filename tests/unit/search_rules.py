"""MLflow's rules of filters and orders, said plainly in Python over small runs: what the SQL must come to."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from runtide_queries.search.grammar import Clause, Either, Every, Expression, Negation, Order
from runtide_queries.search.vocabularies import RUNS

COMPARISONS: dict[str, Any] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "LIKE": lambda left, right: like(left, right),
    "ILIKE": lambda left, right: like(left.lower(), right.lower()),
    "IN": lambda left, right: left in right,
    "NOT IN": lambda left, right: left not in right,
}


@dataclass(frozen=True)
class Sample:
    """A run of few words."""

    run_id: str
    name: str
    status: str
    start_time: int | None
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: tuple[tuple[str, str, str | None], ...] = ()

    def values(self, entity: str, key: str) -> list[Any]:
        """Return the values that a field names, none when it is missing."""
        if entity == "dataset":
            at = ("name", "digest", "context").index(key)
            return [one[at] for one in self.datasets if one[at] is not None]
        if entity == "attribute":
            own = {"run_id": self.run_id, "run_name": self.name, "status": self.status, "start_time": self.start_time}
            value = own[{"created": "start_time", "run name": "run_name"}.get(key, key)]
            return [] if value in (None, "") else [value]
        held: dict[str, dict[str, Any]] = {"metric": self.metrics, "parameter": self.params, "tag": self.tags}
        return [held[entity][key]] if key in held[entity] else []


def like(text: str, pattern: str) -> bool:
    """Return whether SQL's LIKE holds; the pattern has no backslash."""
    regex = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(regex, text, re.DOTALL) is not None


def holds(tree: Expression | None, run: Sample) -> bool:
    """Return whether a filter is true of a run."""
    match tree:
        case None:
            return True
        case Every():
            return all(holds(part, run) for part in tree.parts)
        case Either():
            return any(holds(part, run) for part in tree.parts)
        case Negation():
            return not holds(tree.part, run)
        case Clause():
            found = run.values(RUNS.entity(tree.field), tree.field.key)
            if tree.value is None:
                return bool(found) == (tree.comparator == "IS NOT NULL")
            return any(COMPARISONS[tree.comparator](value, tree.value) for value in found)


def in_order(runs: list[Sample], orders: list[Order]) -> list[str]:
    """Return the ids in MLflow's order: missing values last both ways, NaN before them; then the newest, then by id."""
    ordered = sorted(runs, key=lambda run: run.run_id)
    ordered.sort(key=lambda run: (run.start_time is None, -(run.start_time or 0)))
    for order in reversed(orders):
        entity = RUNS.entity(order.field)
        with_value = [run for run in ordered if _number(run, order) is not None]
        with_value.sort(key=lambda run: run.values(entity, order.field.key)[0], reverse=not order.ascending)
        nan = [run for run in ordered if run.values(entity, order.field.key) and _number(run, order) is None]
        missing = [run for run in ordered if not run.values(entity, order.field.key)]
        ordered = [*with_value, *nan, *missing]
    return [run.run_id for run in ordered]


def _number(run: Sample, order: Order) -> Any:
    (value,) = run.values(RUNS.entity(order.field), order.field.key) or [None]
    return None if isinstance(value, float) and math.isnan(value) else value
