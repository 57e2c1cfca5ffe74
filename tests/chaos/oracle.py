"""What the log says and what the stores say, in one form, and where the two differ.

The log is read here by aiokafka and fastavro and folded by the documented rules, with none of the code that is judged: a
writer's numbers count once per (run, writer, topic); the first value of a param and the last of a tag stand; the last point
is the greatest and the first the least by (step, timestamp, value). The checksum of points does not depend on their order,
and a doubled, lost or changed point shows in it.
"""

import asyncio
import hashlib
import io
import json
import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition

RUN_TOPICS = ("runtide.runs", "runtide.metrics")
TOPICS = (*RUN_TOPICS, "runtide.requests")
_HEADER_BYTES = 10  # of Avro's single-object encoding: two bytes of marker, eight of fingerprint
_MODULUS = 1 << 64
_OF_THE_WATCHER = ("RunLost", "RunRecovered")
"""What a service says of runs: it goes on watching, and closes nothing."""
Sequence = tuple[str, str, str]
"""Run, writer, topic; no run where a writer numbers what it says of all runs together."""
Point = tuple[int, int, float]
"""Step, timestamp, value."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log: where it stands, who numbered it how, and its fields."""

    topic: str
    partition: int
    offset: int
    type: str
    writer: str
    seq: int
    id: str
    body: Mapping[str, Any]


@dataclass
class Account:
    """What a log or a store says; a store leaves out what it does not keep (None).

    Attributes:
        counted: how many events of each sequence about a run were seen, none of them missing.
        gaps: sequences that lack numbers.
        points: how many there are.
        checksum: of all points.
        summaries: by run and key: count, count of NaN, and the bits of least, greatest, first and last.
        params, tags: by run and key.
        statuses: by run.
        parked: how many records are in quarantine.
    """

    counted: dict[Sequence, int] = field(default_factory=dict)
    gaps: set[Sequence] = field(default_factory=set)
    points: int = 0
    checksum: int | None = None
    summaries: dict[tuple[str, str], tuple[Any, ...]] | None = None
    params: dict[tuple[str, str], str] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    parked: int = 0


@dataclass
class LogAccount(Account):
    """What the log says, and what is wrong with the log itself.

    Attributes:
        problems: holes, two events of one number, numbers out of order, a count that is not what the writer says.
        records: how many there are.
        duplicates: how many of them were there before.
        series: the points by run and key.
        closed: how many events there are of each topic, as a writer of a run said at its end.
    """

    problems: list[str] = field(default_factory=list)
    records: int = 0
    duplicates: int = 0
    series: dict[tuple[str, str], list[Point]] = field(default_factory=lambda: defaultdict(list))
    closed: dict[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)


async def read_records(bootstrap: str) -> tuple[list[Record], dict[tuple[str, int], int]]:
    """Return all records of ``TOPICS``, each partition in its order, and the ends of those about runs."""
    # Without a position a consumer begins at the end, and a seek to the beginning may come after that: it reads nothing.
    consumer = AIOKafkaConsumer(
        *TOPICS, bootstrap_servers=bootstrap, enable_auto_commit=False, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        while {partition.topic for partition in consumer.assignment()} != set(TOPICS):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)  # the metadata may lack a topic while the broker starts
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        records: list[Record] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for found in (await consumer.getmany(timeout_ms=500)).values():
                records += map(_record, found)
    finally:
        await consumer.stop()
    begun = {(record.topic, record.partition) for record in records if record.offset == 0}
    assert begun == {tuple(partition) for partition in partitions if ends[partition] > 0}, "not read from the beginning"
    return records, {
        (topic, number): ends[TopicPartition(topic, number)] for topic, number in partitions if topic in RUN_TOPICS
    }


def _record(found: Any) -> Record:
    headers = {name: value.decode() for name, value in found.headers}
    kind = headers["ce_type"].rpartition(".")[2]
    body: Any = fastavro.schemaless_reader(io.BytesIO(found.value[_HEADER_BYTES:]), _schema(kind), None)
    return Record(
        found.topic,
        found.partition,
        found.offset,
        kind,
        headers["runtide_writer"],
        int(headers["runtide_seq"]),
        headers["ce_id"],
        body,
    )


@cache
def _schema(kind: str) -> Any:
    text = files("runtide_schemas").joinpath("avro", f"{kind}.avsc").read_text(encoding="utf-8")
    # Without logical types fastavro returns times as the numbers they are.
    plain = json.loads(text, object_hook=lambda node: {name: node[name] for name in node if name != "logicalType"})
    return fastavro.parse_schema(plain)


def account_of_log(records: Iterable[Record]) -> LogAccount:
    """Fold records by the documented rules."""
    account, seen, latest = LogAccount(), dict[tuple[Sequence, int], str](), dict[Sequence, int]()
    ends: dict[str, int] = {}
    writers: set[tuple[str, str]] = set()
    for record in sorted(records, key=lambda record: (record.topic, record.partition, record.offset)):
        account.records += 1
        run = record.body["run_id"] if record.topic in RUN_TOPICS else ""
        sequence = (run, record.writer, record.topic)
        known = seen.get((sequence, record.seq))
        if known is not None:
            account.duplicates += 1
            if known != record.id:
                account.problems.append(f"two events are number {record.seq} of {sequence}")
            continue
        seen[sequence, record.seq] = record.id
        if record.seq != latest.get(sequence, -1) + 1:
            account.problems.append(f"number {record.seq} of {sequence} follows {latest.get(sequence, -1)}")
        latest[sequence] = max(record.seq, latest.get(sequence, -1))
        account.counted[sequence] = account.counted.get(sequence, 0) + 1
        if record.topic in RUN_TOPICS and record.type not in _OF_THE_WATCHER:
            writers.add((run, record.writer))
        _RULES.get(record.type, _ignore)(account, record.body, ends)
    _close(account, writers)
    return account


def _close(account: LogAccount, writers: set[tuple[str, str]]) -> None:
    """Hold what writers said at their end against what there is of them."""
    for (run, writer), counts in account.closed.items():
        for topic, count in counts.items():
            found = account.counted.get((run if topic in RUN_TOPICS else "", writer, topic), 0)
            if found != count:
                account.problems.append(f"{writer} of {run} says {count} events in {topic}, there are {found}")
    account.problems += [f"writer {writer} of {run} was never closed" for run, writer in writers - set(account.closed)]
    account.counted = {names: count for names, count in account.counted.items() if names[2] in RUN_TOPICS}
    account.summaries = {series: summary(points) for series, points in account.series.items()}
    account.points = sum(map(len, account.series.values()))
    account.checksum = sum(checksum(*series, points) for series, points in account.series.items()) % _MODULUS


def _ignore(_account: LogAccount, _body: Any, _ends: dict[str, int]) -> None:
    """What the load does not log is not accounted for."""


def _metrics(account: LogAccount, body: Any, _ends: dict[str, int]) -> None:
    for index, step, timestamp, value in zip(
        body["key_index"], body["step"], body["timestamp"], body["value"], strict=True
    ):
        account.series[body["run_id"], body["keys"][index]].append((step, timestamp, value))


def _started(account: LogAccount, body: Any, _ends: dict[str, int]) -> None:
    account.statuses.setdefault(body["run_id"], "RUNNING")
    _tags(account, body, _ends)


def _tags(account: LogAccount, body: Any, _ends: dict[str, int]) -> None:
    for key, value in body["tags"].items():
        account.tags[body["run_id"], key] = value


def _params(account: LogAccount, body: Any, _ends: dict[str, int]) -> None:
    for key, value in body["params"].items():
        account.params.setdefault((body["run_id"], key), value)


def _ended(account: LogAccount, body: Any, ends: dict[str, int]) -> None:
    if body["end_time"] >= ends.get(body["run_id"], 0):
        ends[body["run_id"]] = body["end_time"]
        account.statuses[body["run_id"]] = body["status"]


def _closed(account: LogAccount, body: Any, _ends: dict[str, int]) -> None:
    account.closed[body["run_id"], body["writer_id"]] = body["counts"]


_RULES: dict[str, Callable[[LogAccount, Any, dict[str, int]], None]] = {
    "MetricsLogged": _metrics,
    "RunStarted": _started,
    "TagsSet": _tags,
    "ParamsLogged": _params,
    "RunEnded": _ended,
    "WriterClosed": _closed,
}


def bits(value: float | None) -> int | None:
    """Return the bits of a double, one for all NaNs, so that values can be compared exactly."""
    if value is None:
        return None
    return int.from_bytes(struct.pack(">d", math.nan if math.isnan(value) else value), "big")


def checksum(run: str, key: str, points: Iterable[Point]) -> int:
    """Return the sum of the hashes of points, modulo 2^64."""
    name = f"{run}/{key}/".encode()
    return (
        sum(
            int.from_bytes(
                hashlib.blake2b(name + struct.pack(">qqQ", step, timestamp, bits(value)), digest_size=8).digest(),
                "big",
            )
            for step, timestamp, value in points
        )
        % _MODULUS
    )


def summary(points: Iterable[Point]) -> tuple[Any, ...]:
    """Return count, count of NaN, and least, greatest, first and last value with step and time, as bits."""
    ordered = sorted(points, key=lambda point: (point[0], point[1], math.isnan(point[2]), point[2]))
    numbers = [value for _, _, value in ordered if not math.isnan(value)]
    least, greatest = (min(numbers), max(numbers)) if numbers else (None, None)
    first, last = ((step, at, bits(value)) for step, at, value in (ordered[0], ordered[-1]))
    return len(ordered), len(ordered) - len(numbers), bits(least), bits(greatest), first, last


def differences(log: Account, store: Account, name: str) -> list[str]:
    """Return what a store says otherwise than the log; empty when it says the same."""
    found = [
        f"{name}: {left!r} points, the log has {right!r}"
        for left, right in [(store.points, log.points)]
        if left != right
    ]
    if store.checksum is not None and store.checksum != log.checksum:
        found.append(f"{name}: the checksum of the points is {store.checksum:016x}, the log's is {log.checksum:016x}")
    if store.gaps:
        found.append(f"{name}: numbers are missing of {sorted(store.gaps)[:5]}")
    if store.parked:
        found.append(f"{name}: {store.parked} records are parked")
    for what in ("counted", "summaries", "params", "tags", "statuses"):
        wanted, had = getattr(log, what), getattr(store, what)
        if had is not None:
            found += [
                f"{name}: {what} of {key} is {had.get(key)!r}, by the log {wanted.get(key)!r}"
                for key in sorted(wanted.keys() | had.keys())
                if had.get(key) != wanted.get(key)
            ]
    return found
