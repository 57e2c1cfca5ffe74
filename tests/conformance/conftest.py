"""A broker for the tests of this folder."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess, RawClient, running_broker

_numbers = count()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for the tests of a module; each uses topics of its own."""
    with running_broker(tmp_path_factory.mktemp("broker") / "data", max_message_bytes=20 << 20) as running:
        yield running


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that a test may kill."""
    with running_broker(tmp_path / "data") as running:
        yield running


@pytest.fixture
def topic() -> str:
    """A topic name nobody used before."""
    return f"topic-{next(_numbers)}"


@pytest.fixture
def raw(broker: BrokerProcess) -> Iterator[RawClient]:
    """A raw connection to the module's broker."""
    client = RawClient(broker.port)
    yield client
    client.close()
