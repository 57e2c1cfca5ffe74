"""One broker with a short log for the tests of crash points and of two projectors, and empty stores for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from tests.chaos.two_stores import TwoStores, a_short_log, finish
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def short_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker that holds a short log, to which nobody adds."""
    with a_short_log(tmp_path_factory.mktemp("short-log")) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def undisturbed(
    short_log: KafkaSettings, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoStores]:
    """Both stores of that log, folded by projectors that nothing happened to."""
    with postgres_server.database() as dsn:
        calm = TwoStores(tmp_path_factory.mktemp("undisturbed"), short_log, dsn)
        for store in ("postgres", "duckdb"):
            finish(calm.projector(store))
        yield calm


@pytest.fixture
def stores(tmp_path: Path, short_log: KafkaSettings, postgres_dsn: str) -> TwoStores:
    """Empty stores of that log."""
    return TwoStores(tmp_path, short_log, postgres_dsn)
