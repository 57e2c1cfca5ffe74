"""Subscribing to the log over HTTP: nothing twice and nothing missing, whoever is cut off, killed, or slow."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from runtide.kafka import KafkaSettings
from runtide_schemas import topics
from runtide_schemas.events.catalog import AliasMoved, RegisteredModelCreated
from runtide_schemas.events.deployments import DeploymentStarted
from runtide_schemas.events.runs import ParamsLogged, RunEnded, TagsSet
from tests.integration.gateway_stack import API, AT, Gateway, log_writer, wait_until
from tests.integration.service_processes import Service, running_broker, with_topics
from tests.sse import Reader, Sent

EVENTS = f"{API}/events"
SMALL = {
    "RUNTIDE_GATEWAY_HEARTBEAT_SECONDS": "0.2",
    "RUNTIDE_GATEWAY_SUBSCRIBERS": "8",
    "RUNTIDE_GATEWAY_SUBSCRIBER_BYTES": "65536",
    "RUNTIDE_GATEWAY_SUBSCRIBER_PATIENCE_SECONDS": "5",
}


class Subscribed:
    """A broker with topics, and a gateway before it that has no store: subscribing needs none."""

    def __init__(self, folder: Path, broker: Service) -> None:
        self.kafka = in_own_loop(with_topics(broker.bootstrap, spread=3))
        arguments = ("--port", "0", "--bootstrap", broker.bootstrap, "--history-url", "http://127.0.0.1:1")
        self.gateway = Gateway(folder, *arguments, RUNTIDE_POSTGRES_DSN="postgresql://127.0.0.1:1/none", **SMALL)

    def publish(self, *bodies: Any) -> None:
        """Put facts into the log."""

        async def all_of_them() -> None:
            async with log_writer(self.kafka) as log:
                await asyncio.gather(*(log.publish(body) for body in bodies))

        in_own_loop(all_of_them())

    def models(self, *names: str) -> None:
        """Put models into the catalogue."""

        async def all_of_them() -> None:
            async with log_writer(self.kafka) as log:
                for name in names:
                    await log.publish(RegisteredModelCreated(answer=log.answer(), name=name, description="", at=AT))

        in_own_loop(all_of_them())

    @contextmanager
    def subscription(
        self, reader: Reader | None = None, *, start: str = "", **parameters: Any
    ) -> Iterator[Iterator[Sent]]:
        """Subscribe, going on after the last id of a reader that has one."""
        reader = reader or Reader()
        parameters |= {"from": start} if start else {}
        headers = {"last-event-id": reader.last_id} if reader.last_id else {}
        with (
            httpx.Client(base_url=self.gateway.url, timeout=60, trust_env=False) as client,
            client.stream("GET", EVENTS, params=parameters, headers=headers) as reply,
        ):
            assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            yield reader.events(reply.iter_lines())

    def refused(self, status: int, **parameters: Any) -> str:
        """Ask for what cannot be, and return why."""
        reply = httpx.get(self.gateway.url + EVENTS, params=parameters, timeout=60, trust_env=False)
        assert reply.status_code == status, reply.text
        return str(reply.json()["message"])

    def measure(self, name: str) -> float:
        """Return a figure of the gateway's."""
        text = httpx.get(f"{self.gateway.url}/metrics", timeout=60, trust_env=False).text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


def in_own_loop(work: Any) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


def next_of(events: Iterator[Sent], count: int) -> list[Sent]:
    return [next(events) for _ in range(count)]


def names(events: Sequence[Sent]) -> list[str]:
    return [event.data["body"]["name"] for event in events]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscribed]:
    with subscribed(tmp_path_factory.mktemp("events")) as started:
        yield started


@contextmanager
def subscribed(folder: Path) -> Iterator[Subscribed]:
    with running_broker(folder) as broker:
        found = Subscribed(folder, broker)
        try:
            found.gateway.start()
            yield found
        finally:
            found.gateway.stop()


def test_an_event_comes_with_its_type_its_place_and_all_that_it_says(shared: Subscribed) -> None:
    with shared.subscription() as events:
        shared.models("first")
        event = next(events)
    assert event.event == "RegisteredModelCreated"
    assert (event.data["envelope"]["type"], event.data["envelope"]["subject"]) == (event.event, "first")
    assert (event.data["body"]["name"], event.data["problem"]) == ("first", "")
    assert event.data["origin"]["topic"] == topics.CATALOG
    assert event.id == f"0:{event.data['origin']['offset'] + 1}"


def test_the_end_the_beginning_and_an_offset(shared: Subscribed) -> None:
    shared.models("a", "b", "c")
    with shared.subscription(start="beginning") as events:
        while (event := next(events)).data["envelope"]["subject"] != "c":
            pass
        offset = event.data["origin"]["offset"]
    with shared.subscription(start=str(offset - 1)) as events:
        assert names(next_of(events, 2)) == ["b", "c"]
    with shared.subscription(start=f"0:{offset}") as events:
        assert names(next_of(events, 1)) == ["c"]
    with shared.subscription(start="end") as events:
        shared.models("d")
        assert names(next_of(events, 1)) == ["d"]


def test_events_are_filtered_by_type_and_subject(shared: Subscribed) -> None:
    async def told() -> None:
        async with log_writer(shared.kafka) as log:
            for name in ("filtered", "other"):
                await log.publish(RegisteredModelCreated(answer=log.answer(), name=name, description="", at=AT))
                await log.publish(
                    AliasMoved(answer=log.answer(), name=name, alias="best", version=1, previous_version=None, at=AT)
                )

    with (
        shared.subscription(type="AliasMoved", subject="filtered") as one,
        shared.subscription(type=["AliasMoved", "RegisteredModelCreated"], subject="other") as two,
        shared.subscription(type="AliasMoved") as three,
    ):
        in_own_loop(told())
        assert [(event.event, event.data["body"]["name"]) for event in next_of(one, 1)] == [("AliasMoved", "filtered")]
        assert [event.event for event in next_of(two, 2)] == ["RegisteredModelCreated", "AliasMoved"]
        assert names(next_of(three, 2)) == ["filtered", "other"]


def test_who_is_cut_off_again_and_again_gets_each_of_thousands_once(shared: Subscribed) -> None:
    """Runs are spread over three partitions: the id says where the reader is in each."""
    runs, reader = [f"{number:032x}" for number in range(3000)], Reader()
    with shared.subscription(reader, topic=topics.RUNS, type="RunEnded") as events:
        shared.publish(*(RunEnded(run_id=run, status="FINISHED", end_time=AT) for run in runs))
        got = next_of(events, 7)
    while len(got) < len(runs):
        with shared.subscription(reader, topic=topics.RUNS, type="RunEnded") as events:
            got += next_of(events, min(311, len(runs) - len(got)))
    assert sorted(event.data["body"]["run_id"] for event in got) == runs
    assert len({event.data["origin"]["partition"] for event in got}) == 3
    for partition in range(3):
        offsets = [event.data["origin"]["offset"] for event in got if event.data["origin"]["partition"] == partition]
        assert offsets == sorted(set(offsets))
    with shared.subscription(reader, topic=topics.RUNS, type="RunEnded") as events:
        shared.publish(RunEnded(run_id="f" * 32, status="FAILED", end_time=AT))
        assert next(events).data["body"]["run_id"] == "f" * 32, "nothing of before comes again"


def test_who_got_nothing_yet_goes_on_from_where_the_subscription_began(shared: Subscribed) -> None:
    reader = Reader()
    with shared.subscription(reader, type="AliasMoved") as events:
        shared.models("not wanted")
        wait_until(lambda: _passed_a_heartbeat(reader, events), "a heartbeat with the place after it")
    stood = reader.last_id
    shared.models("while away")
    with shared.subscription(reader) as events:
        assert names(next_of(events, 1)) == ["while away"]
    with shared.subscription(start=stood) as events:
        assert names(next_of(events, 1)) == ["while away"]
    assert reader.retry_ms > 0


def _passed_a_heartbeat(reader: Reader, events: Iterator[Sent]) -> bool:
    """Read on until a comment has come; with nothing to yield the reader would read for ever, so lines are looked at."""
    before, lines = reader.last_id, events.gi_frame.f_locals["lines"]  # type: ignore[attr-defined]  # it is a generator
    for line in lines:
        if line.startswith("id: "):
            reader.last_id = line.removeprefix("id: ")
            return bool(before) and reader.last_id != before
    return False


@pytest.mark.gate
@pytest.mark.timeout(900)
def test_a_gateway_that_is_killed_or_stopped_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with subscribed(tmp_path) as own:
        reader, got = Reader(), list[Sent]()
        expected = [f"m{number}" for number in range(60)]
        own.models(*expected[:20])
        with own.subscription(reader, start="beginning") as events:
            got += next_of(events, 5)
            assert own.gateway.process is not None
            own.gateway.process.kill()
            with pytest.raises(httpx.HTTPError):
                for event in events:
                    got.append(event)  # one at a time: what came before the connection broke is kept
        own.gateway.stop()
        own.gateway.start()
        own.models(*expected[20:40])
        with own.subscription(reader) as events:
            while len(got) < 40:
                got.append(next(events))
            assert own.gateway.stop() == 0
            last = next(events)
            assert (last.event, list(events)) == ("stopped", [])
        assert "Traceback" not in own.gateway.log()
        own.models(*expected[40:])
        own.gateway.start()
        with own.subscription(reader) as events:
            while len(got) < 60:
                got.append(next(events))
    assert names(got) == expected


def test_a_slow_client_is_told_so_and_resumes(shared: Subscribed) -> None:
    reader, values = Reader(), [str(number) * 600_000 for number in range(8)]
    before = shared.measure("runtide_gateway_slow_subscribers")
    host, port = shared.gateway.url.removeprefix("http://").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(60)
        slow.connect((host, int(port)))
        slow.sendall(f"GET {EVENTS}?topic=runtide.runs&type=TagsSet HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        with slow.makefile("r", encoding="utf-8", newline="\n") as lines:
            while lines.readline() not in ("\r\n", ""):
                pass  # with the answer's head it is known where the topic ends
            for _ in range(2):
                shared.publish(*(TagsSet(run_id="a" * 32, tags={"large": value}) for value in values))
            wait_until(
                lambda: shared.measure("runtide_gateway_slow_subscribers") == before + 1, "it is known to be slow"
            )
            *got, last = reader.events(line.rstrip("\r\n") for line in lines)
    assert (last.event, "resume" in last.data["message"]) == ("slow", True)
    assert last.id == got[-1].id
    with shared.subscription(reader, topic=topics.RUNS, type="TagsSet") as events:
        got += next_of(events, 16 - len(got))
    assert [event.data["body"]["tags"]["large"][0] for event in got] == [*"01234567"] * 2
    wait_until(lambda: shared.measure("runtide_gateway_subscribers") == 0, "nobody is subscribed any more")


def test_subscribers_are_bounded_and_their_places_become_free(shared: Subscribed) -> None:
    wait_until(lambda: shared.measure("runtide_gateway_subscribers") == 0, "nobody of before is subscribed any more")
    with httpx.Client(base_url=shared.gateway.url, timeout=60, trust_env=False) as client:
        open_ones = [client.send(client.build_request("GET", EVENTS), stream=True) for _ in range(8)]
        assert {reply.status_code for reply in open_ones} == {200}
        assert "RUNTIDE_GATEWAY_SUBSCRIBERS" in shared.refused(429)
        for reply in open_ones:
            reply.close()
    wait_until(lambda: shared.measure("runtide_gateway_subscribers") == 0, "their places are free")
    with shared.subscription() as events:
        shared.models("after the crowd")
        assert names(next_of(events, 1)) == ["after the crowd"]


def test_places_that_cannot_be_are_refused(shared: Subscribed) -> None:
    for wrong in ("x", "0", "0:1,", "0:-1", "1:2:3", "0:1 ", "9" * 400, "0:" + "9" * 18):
        asked = {"topic": topics.RUNS, "from": wrong}
        assert "from=" in shared.refused(400, **asked) or "partition" in shared.refused(400, **asked)
    assert "does not exist" in shared.refused(400, **{"from": "7:1"})
    assert "another log" in shared.refused(400, **{"from": "0:999999"})
    assert "RunEnded" in shared.refused(400, topic=topics.RUNS, type="Nonsense")
    shared.refused(400, topic=topics.METRICS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_prints_events_as_they_come(shared: Subscribed) -> None:
    command = ["curl", "-sN", "--noproxy", "*", f"{shared.gateway.url}{EVENTS}?topic=runtide.catalog"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        try:
            assert curl.stdout.readline().startswith("retry:")
            shared.models("for curl")
            assert next(Reader().events(line.rstrip("\n") for line in curl.stdout)).data["body"]["name"] == "for curl"
        finally:
            curl.kill()


def test_what_retention_has_removed_is_said_with_where_to_go_on(shared: Subscribed) -> None:
    def started(deployment_id: str) -> DeploymentStarted:
        return DeploymentStarted(
            deployment_id=deployment_id, endpoint="e", model="m", version=1, source="runs:/x/m", target="local", generation=1, at=AT
        )  # fmt: skip

    shared.publish(*(started(one) for one in "abcd"))

    async def remove() -> None:
        async with administering(shared.kafka) as admin:
            await admin.delete_records({TopicPartition(topics.DEPLOYMENTS, 0): RecordsToDelete(before_offset=2)})

    def left(events: Iterator[Sent]) -> list[str]:
        return [event.data["body"]["deployment_id"] for event in next_of(events, 2)]

    in_own_loop(remove())
    reader = Reader()
    reader.last_id = "0:1"
    with shared.subscription(reader, topic=topics.DEPLOYMENTS) as events:
        told = list(events)
    assert [(event.event, event.data["status"], event.data["first"]) for event in told] == [("gone", 410, "0:2")]
    assert reader.last_id == "0:1", "it does not go on silently"
    for start in (told[0].data["first"], "beginning"):
        with shared.subscription(topic=topics.DEPLOYMENTS, start=start) as events:
            assert left(events) == ["c", "d"]


def test_partitions_that_are_added_are_read_from_their_beginning(shared: Subscribed) -> None:
    """Last of the module: the topic keeps them."""

    async def add() -> None:
        async with administering(shared.kafka) as admin:
            await admin.create_partitions({topics.RUNS: NewPartitions(total_count=6)})

    with shared.subscription(topic=topics.RUNS) as events:
        in_own_loop(add())
        shared.publish(*(ParamsLogged(run_id=f"{number:032x}", params={}) for number in range(40)))
        got = next_of(events, 40)
    assert {event.data["body"]["run_id"] for event in got} == {f"{number:032x}" for number in range(40)}
    assert len({event.data["origin"]["partition"] for event in got}) > 3


@asynccontextmanager
async def administering(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
