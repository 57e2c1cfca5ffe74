"""The whole table, by area."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.conformance.mlflow_rest.areas import AREAS
from tests.conformance.mlflow_rest.case import Case


def rows() -> list[Any]:
    """Return every row for ``pytest.mark.parametrize("area, case", ...)``, and twins of the endpoints that have one."""
    return [
        pytest.param(area, case, id=f"{area}: {case.endpoint}: {case.name}")
        for area, cases in AREAS.items()
        for case in (*cases, *twins(cases))
    ]


def twins(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return the first case of every endpoint, asked for below ``/ajax-api/``."""
    first: Mapping[str, Case] = {case.endpoint: case for case in reversed(cases)}
    return tuple(case.twin() for case in first.values() if _has_twin(case))


def _has_twin(case: Case) -> bool:
    return not case.call.path.startswith("/") or case.call.path.startswith("/api/")
