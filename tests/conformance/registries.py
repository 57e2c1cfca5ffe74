"""The schema registries that tests run against: the double, and a real one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import CannotResolve
from tests.apicurio import ApicurioRegistry, running_apicurio
from tests.schema_registry_double import SchemaRegistryDouble


@contextlib.contextmanager
def running_registry(kind: str, folder: Path) -> Iterator[SchemaRegistryDouble | ApicurioRegistry]:
    """Run the ``double`` or ``apicurio``; skip the test where the latter cannot be had."""
    with contextlib.ExitStack() as stack:
        if kind == "double":
            yield stack.enter_context(SchemaRegistryDouble())
            return
        try:
            real = stack.enter_context(running_apicurio(folder))
        except CannotResolve as error:
            pytest.skip(f"no real schema registry: {error}")
        yield real
