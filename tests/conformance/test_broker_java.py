"""What the Java client (org.apache.kafka:kafka-clients) does with a broker: the scenarios of java/JavaClient.java."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import CannotResolve, java_command, resolve_class_path
from tests.kafka_clients import KafkaAddress

SOURCE = Path(__file__).with_name("java") / "JavaClient.java"
QUIET = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")

Scenario = Callable[..., None]


@pytest.fixture(scope="session")
def java_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiled program."""
    try:
        java, class_path = java_command(), resolve_class_path()
    except CannotResolve as error:
        pytest.skip(f"no Java client: {str(error).splitlines()[0]}")
    compiler = shutil.which("javac", path=str(Path(java).parent)) or shutil.which("javac")
    if compiler is None:
        pytest.skip("no Java client: there is no javac (a JDK has it, a JRE does not)")
    classes = tmp_path_factory.mktemp("java")
    compiled = subprocess.run(
        [compiler, "-d", str(classes), "-cp", class_path, str(SOURCE)], capture_output=True, text=True, check=False
    )
    assert compiled.returncode == 0, compiled.stderr
    return [java, *QUIET, "-cp", f"{classes}:{class_path}", "JavaClient"]


@pytest.fixture
def scenario(java_client: list[str], kafka: KafkaAddress, topic: str) -> Scenario:
    """Run one scenario against each broker in turn; fails with the program's exception."""

    def run(name: str, *arguments: str) -> None:
        command = [*java_client, name, kafka.address, topic, *arguments]
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
