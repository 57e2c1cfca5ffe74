"""What the Java client (org.apache.kafka:kafka-clients) does with a broker: the scenarios of java/JavaClient.java."""

import subprocess
from collections.abc import Callable

import pytest

from tests.java_programs import JavaPrograms
from tests.kafka_clients import KafkaAddress

Scenario = Callable[..., None]


@pytest.fixture
def scenario(java_programs: JavaPrograms, kafka: KafkaAddress, topic: str) -> Scenario:
    """Run one scenario against each broker in turn; fails with the program's exception."""

    def run(name: str, *arguments: str) -> None:
        command = [*java_programs("JavaClient"), name, kafka.address, topic, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, f"passed {name}\n"), done.stderr[-4000:]

    return run


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_idempotent_produce_keeps_order(scenario: Scenario, compression: str) -> None:
    scenario("idempotent-produce", compression)


@pytest.mark.parametrize(
    "name", ["administration", "group-of-two", "offsets-by-timestamp", "long-poll", "ten-megabytes"]
)
def test_scenario(scenario: Scenario, name: str) -> None:
    scenario(name)
