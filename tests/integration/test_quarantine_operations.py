"""What cannot be applied, from the log through both projections to the operator and back: command line, gateway, facts."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import duckdb
import pytest
from typer.testing import CliRunner

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.decoding import decode_record
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.postgres.digest import digest
from runtide_consumers.projection import Event
from runtide_deploy.cli.main import app
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import format_time, make_envelope, to_headers
from runtide_schemas.events.quarantine import ParkedReleased
from runtide_schemas.events.runs import RunDeleted, RunEnded, RunStarted, TagsSet, WriterClosed
from tests.integration.gateway_stack import API, AT, GatewayStack, points, running_gateway_stack, wait_until
from tests.integration.service_processes import Service, running_broker, started, with_topics
from tests.postgres import PostgresServer

GOOD, CLOSED = "0" * 32, "c" * 32
POISON = {
    "undecodable": "1" * 32,
    "truncated": "2" * 32,
    "unknown": "3" * 32,
    "wrong type": "4" * 32,
    "nul": "5" * 32,
    "long": "6" * 32,
}
"""Why a run's second event cannot be applied, by the run."""


async def send(kafka: KafkaSettings, events: Iterable[tuple[str, Any, int, bytes | None]]) -> None:
    """Publish events of runs (run, body, number), perhaps with another value than their own."""
    producer = new_producer(kafka)
    await producer.start()
    try:
        for run_id, body, seq, value in events:
            envelope = make_envelope(type(body).__name__, subject=run_id, writer="f" * 32, seq=seq, time=AT)
            data = encode(body) if value is None else value
            await producer.send(topics.RUNS, data, key=run_id.encode(), headers=to_headers(envelope))
        await producer.flush()
    finally:
        await producer.stop()


def poison(why: str, run_id: str) -> tuple[Any, bytes | None]:
    """Return an event that cannot be applied, and its value if it is not its own."""
    good = TagsSet(run_id=run_id, tags={"a": "1"})
    return {
        "undecodable": (good, b"\x07rubbish"),
        "truncated": (good, encode(good)[:-3]),
        "unknown": (good, b"\xc3\x01garbage."),
        "wrong type": (good, encode(RunDeleted(run_id=run_id, at=AT))),
        "nul": (TagsSet(run_id=run_id, tags={"a": "1\x002"}), None),
        "long": (TagsSet(run_id=run_id, tags={"k" * 3_000: "1"}), None),
    }[why]


async def filled(bootstrap: str) -> KafkaSettings:
    """Fill a log: for each poison a run that starts, fails and goes on, beside runs that are well."""
    kafka = await with_topics(bootstrap)
    events: list[tuple[str, Any, int, bytes | None]] = []
    for why, run_id in POISON.items():
        events.append((run_id, RunStarted(run_id=run_id, name=why, start_time=AT), 0, None))
        body, value = poison(why, run_id)
        events += [(run_id, body, 1, value), (run_id, TagsSet(run_id=run_id, tags={"later": why}), 2, None)]
    closed = [
        RunStarted(run_id=CLOSED, name="closed", start_time=AT),
        RunEnded(run_id=CLOSED, status="FINISHED", end_time=AT),
        RunDeleted(run_id=CLOSED, at=AT),
        WriterClosed(run_id=CLOSED, writer_id="f" * 32, counts={topics.RUNS: 4}, at=AT),
        TagsSet(run_id=CLOSED, tags={"after": "all"}),
    ]
    events += [(CLOSED, body, number, None) for number, body in enumerate(closed)]
    events.append((GOOD, RunStarted(run_id=GOOD, name="good", start_time=AT), 0, None))
    await send(kafka, events)
    return kafka


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    folder = tmp_path_factory.mktemp("quarantine")
    with (
        postgres_server.database() as dsn,
        running_gateway_stack(folder, dsn, lambda bootstrap: asyncio.run(filled(bootstrap))) as stack,
    ):
        yield stack


def runtide(stack: GatewayStack, *arguments: str, status: int = 0) -> str:
    """Run the command line against the stack."""
    environment = {"RUNTIDE_GATEWAY": stack.gateway.url, "COLUMNS": "200"}
    done = CliRunner().invoke(app, ["quarantine", *arguments], env=environment)
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


def parked(stack: GatewayStack, **parameters: Any) -> list[dict[str, Any]]:
    """Return what is parked."""
    events: list[dict[str, Any]] = stack.get("/quarantine", **parameters)["events"]
    return events


def place(event: dict[str, Any]) -> str:
    """Return where an event stands."""
    return f"{event['topic']}/{event['partition']}/{event['record_offset']}"


def tags(stack: GatewayStack, run_id: str) -> Any:
    """Return the tags of a run."""
    return stack.get(f"/runs/{run_id}")["run"]["tags"]


@pytest.mark.parametrize(
    ("why", "kind", "reason"),
    [
        ("undecodable", "undecodable", "neither Avro"),
        ("truncated", "undecodable", "TagsSet"),
        ("unknown", "unknown_schema", "fingerprint"),
        ("wrong type", "invalid", "the body is RunDeleted"),
        ("nul", "invalid", "NUL"),
        ("long", "invalid", "limit is 1024"),
    ],
)
def test_each_is_parked_for_its_reason_in_both_projections(
    stack: GatewayStack, why: str, kind: str, reason: str
) -> None:
    first, behind = parked(stack, entity=POISON[why])
    assert (first["kind"], behind["kind"], first["topic"]) == (kind, "behind", topics.RUNS)
    assert reason in first["reason"]
    assert behind["record_offset"] > first["record_offset"]
    for event in (first, behind):
        assert {one["projection"] for one in event["projections"]} == {"postgres", "duckdb"}
        assert {one["reason"] for one in event["projections"]} == {event["reason"]}
    assert tags(stack, POISON[why]) == {}


def test_others_flow_and_an_event_of_a_closed_run_is_none_that_cannot_be_applied(stack: GatewayStack) -> None:
    """A run has no last event in the log: what a late spool brings is a fact like any other."""
    assert stack.get(f"/runs/{GOOD}")["run"]["info"]["name"] == "good"
    assert tags(stack, CLOSED) == {"after": "all"}


def test_one_event_is_shown_with_headers_bytes_and_what_waits(stack: GatewayStack) -> None:
    first, behind = parked(stack, entity=POISON["nul"])
    shown = stack.get(f"/quarantine/{place(first)}")
    assert shown["envelope"]["type"] == "TagsSet"
    assert dict(shown["headers"])["ce_subject"]["text"] == POISON["nul"]
    assert bytes.fromhex(shown["value"]["hex"]) == encode(TagsSet(run_id=POISON["nul"], tags={"a": "1\x002"}))
    assert shown["body"]["tags"] == {"a": "1\x002"}
    assert [place(one) for one in shown["waiting"]] == [place(behind)]
    garbage = stack.get(f"/quarantine/{place(parked(stack, entity=POISON['undecodable'])[0])}")
    assert (garbage["body"], garbage["value"]["base64"]) == ({}, "B3J1YmJpc2g=")
    assert "neither Avro" in garbage["problem"]
    printed = runtide(stack, "show", place(first))
    assert "ce_subject" in printed
    assert "contains a NUL" in printed
    listed = runtide(stack, "ls")
    assert all(place(event) in listed for event in parked(stack))
    assert json.loads(runtide(stack, "ls", "--json", "-p", "duckdb"))["counts"].keys() == {"duckdb"}


def test_metrics_count_by_projection_and_kind(stack: GatewayStack) -> None:
    text = stack.client.get("/metrics").text
    for projection in ("postgres", "duckdb"):
        assert f'runtide_quarantine_events{{kind="unknown_schema",projection="{projection}"}} 1.0' in text
        assert f'runtide_quarantine_events{{kind="failed",projection="{projection}"}} 0.0' in text


def test_a_retry_without_a_fix_parks_again_and_a_drop_lets_the_others_go_on(stack: GatewayStack) -> None:
    run_id = POISON["wrong type"]
    before = parked(stack, entity=run_id)
    told = runtide(stack, "retry", run_id, "--reason", "hope")
    assert told.count("carried out") == 2
    assert parked(stack, entity=run_id) == before
    runtide(stack, "drop", place(before[0]), "-m", "beyond repair", "-p", "duckdb")
    assert [one["projection"] for one in parked(stack, entity=run_id)[0]["projections"]] == ["postgres"]
    runtide(stack, "drop", place(before[0]), "-m", "beyond repair")
    assert parked(stack, entity=run_id) == []
    assert tags(stack, run_id) == {"later": "wrong type"}
    (dropped,) = parked(stack, entity=run_id, kind="dropped")
    assert (place(dropped), dropped["reason"]) == (place(before[0]), "beyond repair")
    missing = stack.get(f"/runs/{run_id}/completeness")
    assert missing["state"] != "complete", "a dropped event is missing, and the run says so"
    asyncio.run(send_one(stack, run_id))
    wait_until(lambda: tags(stack, run_id).get("next") == "1", "the next event to flow")
    by = asyncio.run(decisions(stack.kafka))
    assert {actor.partition("@")[2] for actor, _ in by} == {os.uname().nodename}
    assert [reason for _, reason in by].count("beyond repair") == 2


def test_what_only_the_history_store_has_parked_is_missing_and_said(stack: GatewayStack) -> None:
    run_id = POISON["truncated"]
    first, behind = parked(stack, entity=run_id)
    both = stack.get(f"/runs/{run_id}/completeness")
    assert (both["state"], both["parked"], both["history"]["parked"]) == ("missing", 2, 2)
    assert both["summary"].count("parked") == 1, "once is enough where both say the same"
    runtide(stack, "drop", place(first), "-m", "not needed for what is", "-p", "postgres")
    assert tags(stack, run_id) == {"later": "truncated"}
    found = stack.get(f"/runs/{run_id}/completeness")
    assert (found["state"], found["parked"], found["history"]["parked"]) == ("missing", 0, 2)
    assert found["history"]["lacking"] == 1, "the event that waits there behind the dropped one"
    since = format_time(min(first["parked_at"], behind["parked_at"]))
    said = f"in the history store (DuckDB) 2 events are parked since {since}: see `runtide quarantine ls {run_id}`"
    assert found["summary"].endswith(said)


async def send_one(stack: GatewayStack, run_id: str) -> None:
    await send(stack.kafka, [(run_id, TagsSet(run_id=run_id, tags={"next": "1"}), 3, None)])


async def decisions(kafka: KafkaSettings) -> list[tuple[str, str]]:
    """Return actor and reason of each decision in the log."""
    reader, wanted = await LogReader.open(kafka, {topics.QUARANTINE}, {}), asyncio.Event()
    wanted.set()
    found = []
    while not reader.read_to_end:
        for record in await reader.fetch(BatchLimits(), wanted):
            event = decode_record(record)
            assert isinstance(event, Event)
            found.append((event.envelope.actor, event.body.reason))
    await reader.close()
    return found


def test_what_cannot_be_decided_is_refused_with_the_reason(stack: GatewayStack) -> None:
    first, _ = parked(stack, entity=POISON["long"])
    where = {"topic": first["topic"], "partition": first["partition"], "offset": first["record_offset"]}
    refused: list[tuple[str, dict[str, Any], int, str]] = [
        ("retry", {}, 400, "Say what to retry"),
        ("retry", {"entity": "x", "kind": "invalid"}, 400, "Say what to retry"),
        ("retry", {"entity": "nobody"}, 404, "Nothing is parked for nobody"),
        ("retry", {"kind": "dropped"}, 400, "never applied"),
        ("retry", {"kind": "spoilt"}, 400, "the kinds are undecodable, unknown_schema"),
        ("retry", {"entity": "x", "projection": "oracle"}, 400, "oracle"),
        ("drop", where, 400, "Say why"),
        ("drop", {**where, "offset": 10**9, "reason": "x"}, 404, "is not parked"),
        ("drop", {**where, "offset": -1, "reason": "x"}, 400, "offset"),
        ("drop", {**where, "reason": "x\x00"}, 400, "printable"),
        ("drop", {**where, "reason": "x", "surprise": 1}, 400, "surprise"),
    ]
    for path, body, status, message in refused:
        reply = stack.client.post(f"{API}/quarantine/{path}", json=body)
        assert (reply.status_code, message in reply.json()["message"]) == (status, True), reply.text
    assert stack.client.get(f"{API}/quarantine/{topics.RUNS}/0/999999").status_code == 404
    listed = stack.client.get(f"{API}/quarantine", params={"kind": "spoilt"})
    assert (listed.status_code, "the kinds are" in listed.json()["message"]) == (400, True), "not: nothing is spoilt"
    assert "write TOPIC/PARTITION/OFFSET" in str(CliRunner().invoke(app, ["quarantine", "show", "x"]).exception)
    assert len(parked(stack, entity=POISON["long"])) == 2


def test_a_whole_kind_is_released_entity_by_entity(stack: GatewayStack) -> None:
    entities = {event["entity"] for event in parked(stack, kind="undecodable")}
    reply = stack.client.post(f"{API}/quarantine/retry", json={"kind": "undecodable", "wait": 20})
    found = reply.json()
    assert {(one["projection"], one["entity"]) for one in found["decided"]} == {
        (projection, entity) for projection in ("postgres", "duckdb") for entity in entities
    }
    assert all(one["carried_out"] for one in found["decided"])


async def test_decisions_are_read_to_their_end_before_anything_else(tmp_path: Path) -> None:
    """So that a fold from the beginning knows what was dropped before it meets it."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        tagged = [(f"{number:032x}", TagsSet(run_id=f"{number:032x}", tags={}), 0, None) for number in range(1_500)]
        await send(kafka, tagged)
        async with DirectPublisher(kafka, "operator") as operator:
            facts = [
                ParkedReleased(projection="x", entity=f"{number}", reason="r" * 500, at=AT) for number in range(1_500)
            ]
            await asyncio.gather(*map(operator.publish, facts))
        decisions = frozenset({topics.QUARANTINE})
        reader = await LogReader.open(kafka, {topics.RUNS, topics.QUARANTINE}, {}, first=decisions)
        wanted = asyncio.Event()
        wanted.set()
        read: list[str] = []
        while not reader.read_to_end:
            read += [record.topic for record in await reader.fetch(BatchLimits(max_bytes=50_000), wanted)]
        await reader.close()
    assert read == [topics.QUARANTINE] * 1_500 + [topics.RUNS] * 1_500


def services(folder: Path, bootstrap: str, dsn: str, fault: Path | None = None) -> dict[str, Service]:
    """Return both projectors, with a bug while the file ``fault`` exists."""
    options = {
        "postgres": ("--dsn", dsn),
        "duckdb": (
            "--file",
            str(folder / "history.duckdb"),
            "--token-file",
            str(folder / "token"),
            "--query-port",
            "0",
        ),
    }
    faulty = ("tests.integration.faulty_projector", str(fault))
    return {
        name: Service(folder, name, *(f"runtide_consumers.{name}",) if fault is None else (*faulty, name), *arguments,
                      bootstrap=bootstrap)
        for name, arguments in options.items()
    }  # fmt: skip


async def digests(folder: Path, dsn: str) -> dict[str, dict[str, str]]:
    """Return the digests of both stores, whose projectors are stopped."""
    connection = await asyncpg.connect(dsn)
    with duckdb.connect(str(folder / "history.duckdb")) as file:
        found = {"postgres": await digest(connection), "duckdb": table_digests(file)}
    await connection.close()
    return found


@pytest.mark.slow
async def test_killed_during_releases_both_come_to_what_a_fixed_fold_from_the_beginning_gives(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """A bug in a handler, 1,500 events behind it, the fix, a release; killed again and again meanwhile."""
    random, fault = Random(5), tmp_path / "fault"
    fault.touch()
    (tmp_path / "live").mkdir()
    (tmp_path / "again").mkdir()
    with running_broker(tmp_path) as broker, postgres_server.database() as dsn, postgres_server.database() as other:
        kafka = await with_topics(broker.bootstrap)
        poison_tags = TagsSet(run_id=CLOSED, tags={"poison": "that"})
        tagged = [TagsSet(run_id=CLOSED, tags={f"k{number % 7}": str(number)}) for number in range(1_500)]
        bodies = [RunStarted(run_id=CLOSED, name="x", start_time=AT), poison_tags, *tagged]
        await send(kafka, [(CLOSED, body, number, None) for number, body in enumerate(bodies)])
        async with DirectPublisher(kafka, "good") as good:
            await good.publish(points(CLOSED, "loss", [1.0, 2.0]))
            await good.publish(RunStarted(run_id=GOOD, name="good", start_time=AT))
        live = services(tmp_path / "live", broker.bootstrap, dsn, fault)
        for service in live.values():
            with started(service):
                service.ready()
                assert "nobody thought of that" in service.log()
        fault.unlink()
        async with DirectPublisher(kafka, "operator") as operator:
            for name in live:
                await operator.publish(ParkedReleased(projection=name, entity=CLOSED, reason="fixed", at=AT))
        for service in live.values():
            for _ in range(5):
                _kill_at_work(service, random)
            with started(service):
                service.ready()
                assert service.stop() == 0
        again = services(tmp_path / "again", broker.bootstrap, other)
        for service in again.values():
            with started(service):
                service.ready()
                assert service.stop() == 0
        found, expected = await digests(tmp_path / "live", dsn), await digests(tmp_path / "again", other)
    assert found == expected


def _kill_at_work(service: Service, random: Random) -> None:
    count = service.log().count(" reads ")
    service.start()
    wait_until(lambda: service.log().count(" reads ") > count, "the projector to read", 60)
    wait_until(_after(random.uniform(0, 0.3)), "a moment")
    service.kill()


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


@pytest.mark.parametrize("name", ["postgres", "duckdb"])
@pytest.mark.slow
async def test_too_many_parked_stop_a_projector_until_they_are_allowed_or_fixed(
    tmp_path: Path, postgres_server: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs whose every tag meets a bug: found event by event, stopped at half, then fixed; then garbage, allowed."""
    fault = tmp_path / "fault"
    fault.touch()
    with running_broker(tmp_path) as broker, postgres_server.database() as dsn:
        kafka = await with_topics(broker.bootstrap)
        runs = [f"{number:032x}" for number in range(120)]
        await send(kafka, [(run, TagsSet(run_id=run, tags={"poison": "it"}), 0, None) for run in runs])
        service = services(tmp_path, broker.bootstrap, dsn, fault)[name]
        with started(service):
            assert service.wait() == 3
            assert "RUNTIDE_PARKING_SHARE" in service.log().splitlines()[-1]
            assert "LookupError: nobody thought of it" in service.log().splitlines()[-1]
        fault.unlink()
        with started(service):
            service.ready()
            assert service.stop() == 0
        garbage = TagsSet(run_id=GOOD, tags={})
        await send(kafka, [(f"{number}", garbage, 0, b"rubbish") for number in range(300)])
        with started(service):
            assert service.wait() == 3
        monkeypatch.setenv("RUNTIDE_PARKING_SHARE", "1")
        allowed = services(tmp_path, broker.bootstrap, dsn)[name]
        with started(allowed):
            allowed.ready()
            assert allowed.stop() == 0
        monkeypatch.setenv("RUNTIDE_PARKING_SHARE", "2")
        with started(services(tmp_path, broker.bootstrap, dsn)[name]) as wrong:
            assert wrong.wait() == 3
            assert "RUNTIDE_PARKING_SHARE is '2'" in wrong.log()
