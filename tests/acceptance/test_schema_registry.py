"""The whole stack with a schema registry, as a user sets it: one variable, for the stack and for the training jobs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from runtide_schemas import topics
from runtide_schemas.envelope import from_headers
from tests.acceptance.stack import RUNTIDE, RunningStack, eventually, running_stack
from tests.apicurio import ApicurioRegistry
from tests.conformance.registries import running_registry
from tests.schema_registry_double import SchemaRegistryDouble

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

URL = "RUNTIDE_SCHEMA_REGISTRY_URL"
STEPS = 500
TRAINING = f"""
import sys, time
from pathlib import Path
import runtide

def wait_for(name):
    deadline = time.monotonic() + 60
    while not Path(sys.argv[1], name).exists() and time.monotonic() < deadline:
        time.sleep(0.02)

runtide.init(experiment="wire format")
with runtide.start_run(name="framed", tags={{"a": "1"}}) as run:
    print(run.run_id, flush=True)
    run.log_params({{"rate": 0.1}})
    for step in range({STEPS}):
        run.log_metric("loss", step * 0.5, step=step)
    print(run.flush(timeout=30), flush=True)
    wait_for("lost")
    run.log_metric("loss", -1.0, step={STEPS})
    print(run.flush(timeout=30), flush=True)
    run.delete_tag("a")
    print(run.flush(timeout=0.5), flush=True)
    wait_for("back")
try:
    runtide.set_alias("no such model", "champion", 1)
except runtide.InvalidRequest as error:
    print(error.code)
"""
OFFLINE = """
import runtide
runtide.init(experiment="wire format", broker="")
with runtide.start_run(name="before") as run:
    run.log_metric("loss", 0.25)
print(run.run_id)
"""


@pytest.fixture(params=["double", "apicurio"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SchemaRegistryDouble | ApicurioRegistry]:
    with running_registry(request.param, tmp_path) as running:
        monkeypatch.setenv(URL, running.url)
        yield running


def test_one_variable_and_everything_refers_to_the_registry(
    registry: SchemaRegistryDouble | ApicurioRegistry, tmp_path: Path
) -> None:
    with running_stack(tmp_path / "data") as stack:
        before = offline_run(stack)
        run_id = trained(stack, registry)
        send_spools(stack, registry.url)
        for one in (run_id, before):
            eventually(lambda one=one: is_complete(stack, one), f"{one} complete")  # type: ignore[misc]
        assert stored(stack, run_id) == {"points": STEPS + 1, "last": -1.0, "tags": {}}
        events = json.loads(stack.runtide("log", run_id, "--metrics", "--json").stdout)["events"]
        assert {event["envelope"]["type"] for event in events} >= {"RunStarted", "TagsDeleted", "RunEnded"}
        assert not [event["problem"] for event in events if event.get("problem")]
        assert stack.postgres("SELECT count(*) AS parked FROM quarantine")[0]["parked"] == 0
        types = foreign_types(stack.file.broker, registry.url)
        assert {"RunStarted", "MetricsLogged", "TagsDeleted", "CreateExperiment", "ExperimentCreated"} <= types


def trained(stack: RunningStack, registry: SchemaRegistryDouble | ApicurioRegistry) -> str:
    """Train while the registry goes away and comes back, and return the run."""
    folder = stack.data.parent
    job = stack.python(TRAINING, str(folder), variables={URL: registry.url})
    assert job.stdout is not None
    run_id = job.stdout.readline().strip()
    assert job.stdout.readline() == "True\n"
    lasting = isinstance(registry, SchemaRegistryDouble)  # the other one would have forgotten its ids
    if lasting:
        registry.stop()
    (folder / "lost").touch()
    assert job.stdout.readline() == "True\n", "known schemas are sent without the registry"
    assert job.stdout.readline() == f"{not lasting}\n", "a new one waits for it"
    if lasting:
        registry.start()
    (folder / "back").touch()
    out, errors = job.communicate(timeout=60)
    assert (job.returncode, out) == (0, "RESOURCE_DOES_NOT_EXIST\n"), errors
    return run_id


def offline_run(stack: RunningStack) -> str:
    """Log a run that knows neither broker nor registry."""
    job = stack.python(OFFLINE)
    out, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    return out.strip()


def send_spools(stack: RunningStack, url: str) -> None:
    """Send what is left in spools, which were written without a registry."""
    environment = {**stack.environment, URL: url}
    done = subprocess.run([RUNTIDE, "sync"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def is_complete(stack: RunningStack, run_id: str) -> bool:
    return bool(stack.get(f"/runs/{run_id}/completeness")["state"] == "complete")


def stored(stack: RunningStack, run_id: str) -> dict[str, Any]:
    """Return what PostgreSQL and DuckDB have of a run; the latter may be behind for a moment."""
    counted = f"SELECT count(*) AS points FROM metrics WHERE run_id = '{run_id}' AND key = 'loss'"
    eventually(lambda: stack.sql(counted)[0]["points"] == STEPS + 1, "all points in DuckDB")
    row = stack.postgres("SELECT point_count, last_value FROM metric_summaries WHERE run_id = $1", run_id)[0]
    tags = stack.postgres("SELECT key, value FROM tags WHERE run_id = $1 AND key = 'a'", run_id)
    return {
        "points": row["point_count"],
        "last": row["last_value"],
        "tags": {tag["key"]: tag["value"] for tag in tags},
    }


def foreign_types(broker: str, url: str) -> set[str]:
    """Read the whole log with Confluent's consumer and deserializer and return the types of events found."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "foreign", "enable.auto.commit": False})
    read = AvroDeserializer(SchemaRegistryClient({"url": url}))
    found = set()
    try:
        known = consumer.list_topics(timeout=20).topics
        partitions = [TopicPartition(name, number, 0) for name in topics.TOPICS for number in known[name].partitions]
        left = sum(consumer.get_watermark_offsets(one, timeout=20)[1] for one in partitions)
        assert left > 10
        consumer.assign(partitions)
        while left:
            message = consumer.poll(20)
            assert message is not None and message.error() is None
            value, left = message.value(), left - 1
            assert value is not None and value[:1] == b"\x00"
            assert read(value, SerializationContext(message.topic() or "", MessageField.VALUE)) is not None
            headers: Any = message.headers()
            found.add(from_headers(headers).type)
    finally:
        consumer.close()
    return found


def test_the_command_registers_everything(registry: SchemaRegistryDouble | ApicurioRegistry) -> None:
    command = [sys.executable, "-m", "runtide.schema_registry"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{registry.url} has all ")
