"""The table against our gateway, on one standalone stack."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeGuard

import pytest

from tests.acceptance.stack import running_stack
from tests.conformance.mlflow_rest.case import Case
from tests.conformance.mlflow_rest.checking import check
from tests.conformance.mlflow_rest.server import Server
from tests.conformance.mlflow_rest.table import rows

pytestmark = [pytest.mark.gate, pytest.mark.timeout(1200)]  # all cases are tried within the first test


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One stack for all cases."""
    with running_stack(tmp_path_factory.mktemp("gateway") / "data") as stack:
        server = Server(stack.file.gateway)
        yield server
        server.close()


@pytest.fixture(scope="module")
def failures(gateway: Server, request: pytest.FixtureRequest) -> Mapping[int, Exception | None]:
    """What each chosen case failed by, if it did. Eight clients at once try them: most of the time is spent waiting."""
    chosen = [item.callspec.params for item in request.session.items if _is_of_this_module(item)]
    cases = [params["case"] for params in chosen]
    with ThreadPoolExecutor(8) as clients:
        found = clients.map(lambda case: _failure(gateway, case), cases)
    return dict(zip(map(id, cases), found, strict=True))


def _is_of_this_module(item: pytest.Item) -> "TypeGuard[pytest.Function]":
    return isinstance(item, pytest.Function) and item.module.__name__ == __name__


def _failure(gateway: Server, case: Case) -> Exception | None:
    try:
        check(gateway, case, ours=True)
    except Exception as error:  # noqa: BLE001  # raised again by the case's test
        return error
    return None


@pytest.mark.parametrize(("area", "case"), rows())
def test_the_gateway_does_what_the_table_says(failures: Mapping[int, Exception | None], area: str, case: Case) -> None:
    del area
    if (failure := failures[id(case)]) is not None:
        raise failure
