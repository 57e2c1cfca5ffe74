"""One stack for all acceptance tests that only use it."""

from collections.abc import Iterator

import pytest

from tests.acceptance.stack import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that is up. Tests share it: name experiments and models after the test."""
    with running_stack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running
