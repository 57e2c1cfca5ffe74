"""The table against our gateway, on one standalone stack."""

from collections.abc import Iterator, Mapping

import pytest

from tests.acceptance.stack import running_stack
from tests.conformance.mlflow_rest.case import Case
from tests.conformance.mlflow_rest.checking import check
from tests.conformance.mlflow_rest.server import Server
from tests.conformance.mlflow_rest.table import rows

NOT_YET: Mapping[str, str] = dict.fromkeys(
    (
        "inputs and outputs of models",
        "search of datasets",
        "search of runs",
        "search of experiments",
        "logged models",
        "search of logged models",
        "registered models",
        "model versions",
        "search of the registry",
        "artifacts",
        "webhooks",
    ),
    "its routes are being built",
)
"""Areas that the gateway does not serve yet, with the reason that a skipped test prints."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One stack for all cases."""
    with running_stack(tmp_path_factory.mktemp("gateway") / "data") as stack:
        server = Server(stack.file.gateway)
        yield server
        server.close()


@pytest.mark.parametrize(("area", "case"), rows())
def test_the_gateway_does_what_the_table_says(gateway: Server, area: str, case: Case) -> None:
    if area in NOT_YET:
        pytest.skip(f"{area}: {NOT_YET[area]}")
    check(gateway, case, ours=True)
