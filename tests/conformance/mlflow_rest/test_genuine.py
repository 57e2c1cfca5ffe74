"""The table against a genuine MLflow server: that the rows say what MLflow does."""

from collections.abc import Iterator

import pytest

from tests.conformance.mlflow_rest.case import Case
from tests.conformance.mlflow_rest.checking import check
from tests.conformance.mlflow_rest.genuine import PYTHON, WITHOUT, genuine_server
from tests.conformance.mlflow_rest.server import Server
from tests.conformance.mlflow_rest.table import rows

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON, reason=WITHOUT)]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all cases."""
    with genuine_server(tmp_path_factory.mktemp("genuine")) as url:
        server = Server(url)
        yield server
        server.close()


@pytest.mark.parametrize(("area", "case"), rows())
def test_mlflow_does_what_the_table_says(genuine: Server, area: str, case: Case) -> None:
    check(genuine, case)
