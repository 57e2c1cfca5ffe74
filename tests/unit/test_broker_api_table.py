"""The table of APIs says what their files serve."""

from typing import get_type_hints

import pytest

from runtide_deploy.broker.api.registration import Api, implementation
from runtide_deploy.broker.api.table import APIS


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_a_handler_takes_the_newest_version_that_the_table_names(api: Api) -> None:
    hints = get_type_hints(implementation(api).handle)
    [request] = [hint for name, hint in hints.items() if name.lstrip("_") == "request"]
    assert (request.__api_key__, request.__version__) == (api.key, api.newest)
