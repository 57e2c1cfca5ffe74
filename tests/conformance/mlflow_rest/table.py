"""The whole table, by area."""

from collections.abc import Iterator, Mapping

import pytest

from tests.conformance.mlflow_rest.areas import AREAS
from tests.conformance.mlflow_rest.case import Case


def rows() -> Iterator[object]:
    """Yield every row for ``pytest.mark.parametrize("area, case", ...)``, and twins of the endpoints that have one."""
    for area, cases in AREAS.items():
        for case in (*cases, *twins(cases)):
            yield pytest.param(area, case, id=f"{area}: {case.endpoint}: {case.name}")


def twins(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return the first case of every endpoint, asked for below ``/ajax-api/``."""
    first: Mapping[str, Case] = {case.endpoint: case for case in reversed(cases)}
    return tuple(case.twin() for case in first.values() if _has_twin(case))


def _has_twin(case: Case) -> bool:
    return not case.call.path.startswith("/") or case.call.path.startswith("/api/")
