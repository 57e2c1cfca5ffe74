"""Bad input gets a clear error and loses nothing."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import RecordMetadata

from runtide.connection import StackFile
from runtide.kafka import KafkaSettings, new_producer
from runtide_schemas.codec import encode
from runtide_schemas.envelope import format_time, make_envelope, to_headers
from runtide_schemas.events.runs import ParamsLogged
from tests.acceptance.stack import FREE_PORTS, RUNTIDE, RunningStack, eventually, running_stack

NON_NUMERIC = """
import runtide
runtide.init(experiment="bad input")
with runtide.start_run(name="non-numeric") as run:
    run.log_metric("loss", 1.5, step=0)
    for value in ("0.5", None, [1.0]):
        try:
            run.log_metric("loss", value, step=1)
        except runtide.InvalidRequest as error:
            print(error)
    run.log_metric("loss", float("nan"), step=2)
print(run.run_id)
"""

ONE_RUN = """
import runtide
runtide.init(experiment="bad input")
with runtide.start_run(name="bystander") as run:
    run.log_metric("loss", 1.0)
print(run.run_id)
"""


def finished(process: "subprocess.Popen[str]") -> list[str]:
    out, errors = process.communicate(timeout=170)
    assert process.returncode == 0, errors
    return out.splitlines()


def test_an_unknown_experiment_is_named(stack: RunningStack) -> None:
    done = stack.runtide("runs", "--experiment", "nope", check=False)
    assert done.returncode == 2
    assert "nope" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_run_is_named(stack: RunningStack) -> None:
    for command in ("show", "log"):
        done = stack.runtide(command, "0" * 32, check=False)
        assert done.returncode == 2
        assert "0" * 32 in done.stderr


def test_a_run_in_an_experiment_that_does_not_exist_is_kept(stack: RunningStack) -> None:
    code = (
        "import runtide\nwith runtide.start_run(experiment_id='4711') as run: run.log_param('a', 1)\nprint(run.run_id)"
    )
    (run_id,) = finished(stack.python(code))

    def shown() -> tuple[str, Any]:
        run = stack.get(f"/runs/{run_id}")["run"]
        return run["info"]["experiment_id"], run["params"]

    eventually(lambda: shown() == ("4711", {"a": "1"}), "the run and its param")


def test_a_non_numeric_metric_is_refused_and_loses_nothing(stack: RunningStack) -> None:
    *refusals, run_id = finished(stack.python(NON_NUMERIC))
    assert len(refusals) == 3
    assert all("Metric 'loss' must be a number" in refusal for refusal in refusals)

    def points() -> bool:
        found = stack.get(f"/runs/{run_id}/metrics/loss")["points"]
        return [(point["step"], point["value"]) for point in found] == [(0, 1.5), (2, "NaN")]

    eventually(points, "both points")


def test_bad_sql_is_refused_with_the_reason(stack: RunningStack) -> None:
    for statement, reason in (("SELEC 1", "syntax"), ("SELECT * FROM nope", "nope"), ("DELETE FROM runs", "SELECT")):
        done = stack.runtide("sql", statement, check=False)
        assert done.returncode == 2
        assert reason in done.stderr, done.stderr


def test_a_port_in_use_is_named_with_the_option(stack: RunningStack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [str(RUNTIDE), "up", "--data", str(tmp_path / "data"), *FREE_PORTS, "--gateway-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 3
    assert f"Port {port}" in done.stderr
    assert "--gateway-port" in done.stderr


def test_a_directory_in_use_is_refused(stack: RunningStack) -> None:
    command = [str(RUNTIDE), "up", "--data", str(stack.data), *FREE_PORTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 3
    assert f"process {stack.process.pid}" in done.stderr
    assert StackFile.read(stack.data) == stack.file


def test_an_event_that_cannot_be_read_is_parked_and_delays_nobody_else(stack: RunningStack) -> None:
    victim = os.urandom(16).hex()
    later = ParamsLogged(run_id=victim, params={"after": "the garbage"})
    headers = to_headers(make_envelope("ParamsLogged", subject=victim, writer="f" * 32, seq=1))
    (garbage, _) = asyncio.run(_send(stack, victim, [(b"\xc3\x01garbage", headers), (encode(later), headers)]))
    (bystander,) = finished(stack.python(ONE_RUN))
    eventually(lambda: stack.get(f"/runs/{bystander}/completeness")["state"] == "complete", "the bystander complete")

    def parked() -> list[Any]:
        found = [event for event in stack.get("/quarantine", entity=victim)["events"] if in_both(event)]
        return found if len(found) == 2 else []

    def in_both(event: Any) -> bool:
        """What is dropped is dropped where it is parked by then: a projection that comes later would park it again."""
        return {one["projection"] for one in event["projections"]} == {"postgres", "duckdb"}

    both = eventually(parked, "both events parked in both projections")
    first, behind = sorted(both, key=lambda event: event["record_offset"])
    assert first["record_offset"] == garbage.offset
    assert first["kind"] in {"undecodable", "unknown_schema"}
    assert behind["kind"] == "behind"
    eventually(lambda: stack.get("/ready")["ready"], "the gateway is ready all the same")
    since = format_time(min(event["parked_at"] for event in (first, behind)))
    wanted = "missing", 2, f"2 events are parked since {since}: see `runtide quarantine ls {victim}`"

    def told() -> tuple[str, int, str]:
        found = stack.get(f"/runs/{victim}/completeness")
        return found["state"], found["parked"], found["summary"]

    # While DuckDB is slow to answer, it says that, too.
    eventually(lambda: told() == wanted, "what is parked is told")
    checked = stack.runtide("check", victim, check=False)
    assert (checked.returncode, checked.stdout.startswith("missing: 2 events are parked")) == (6, True)
    assert stack.get(f"/runs/{bystander}/completeness")["parked"] == 0
    place = f"{first['topic']}/{first['partition']}/{first['record_offset']}"
    assert "parked in" in stack.runtide("quarantine", "ls", victim).stdout
    assert "decodes now: no" in stack.runtide("quarantine", "show", place).stdout
    dropped = stack.runtide("quarantine", "drop", place, "--reason", "a test's garbage").stdout
    assert dropped.count("carried out") == 2
    assert "not carried out" not in dropped
    assert stack.get(f"/runs/{victim}")["run"]["params"] == {"after": "the garbage"}
    # A statement may be answered from a copy of the history that is a moment old.
    value = f"SELECT value FROM params WHERE run_id = '{victim}'"
    eventually(lambda: stack.sql(value) == [{"value": "the garbage"}], "the param, in DuckDB too")


async def _send(stack: RunningStack, key: str, records: list[tuple[bytes, Any]]) -> list[RecordMetadata]:
    producer = new_producer(KafkaSettings(bootstrap=stack.file.broker))
    await producer.start()
    try:
        return [
            await producer.send_and_wait("runtide.runs", value, key=key.encode(), headers=headers)
            for value, headers in records
        ]
    finally:
        await producer.stop()


@pytest.mark.gate
def test_state_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data) as first:
        (run_id,) = finished(first.python(ONE_RUN))
        points = f"SELECT count(*) AS n FROM metrics WHERE run_id = '{run_id}'"
        eventually(lambda: first.get(f"/runs/{run_id}/completeness")["state"] == "complete", "complete")
        eventually(lambda: first.sql(points) == [{"n": 1}], "its point in DuckDB")
        ports = first.file
    with running_stack(data) as second:
        assert (second.file.broker, second.file.gateway) == (ports.broker, ports.gateway)
        assert second.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED"
        assert second.sql(points) == [{"n": 1}]
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(timeout=150) == 0
