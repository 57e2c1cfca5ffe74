"""How fast encoded metric events become rows in DuckDB, decoding included."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runtide_consumers.decoding import decode_record
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.projection import Batch, Event, TopicPartition
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import Headers, make_envelope, to_headers
from runtide_schemas.events.metrics import MetricsLogged

AT = 1_700_000_000_000
POINTS = 4_000_000
BATCH_POINTS = 200_000


@dataclass(frozen=True)
class StoredRecord:
    """A record as a consumer gets it."""

    offset: int
    value: bytes
    headers: Headers
    key: bytes = b"k"
    topic: str = topics.METRICS
    partition: int = 0
    timestamp: int = AT


def encoded_records(points: int, per_event: int, keys: int = 10, runs: int = 20) -> list[StoredRecord]:
    """Return records of a firehose: ``runs`` writers take turns, each logs ``keys`` metrics per step."""
    records = []
    rng = np.random.default_rng(0)
    names = tuple(f"metric/{number}" for number in range(keys))
    for number in range(points // per_event):
        run = f"{number % runs:032x}"
        first = number // runs * per_event
        body = MetricsLogged(
            run_id=run,
            keys=names,
            key_index=(np.arange(per_event) % keys).astype(np.int32),
            step=(first + np.arange(per_event)) // keys,
            timestamp=AT + (first + np.arange(per_event)) // keys,
            value=rng.standard_normal(per_event),
        )
        envelope = make_envelope("MetricsLogged", subject=run, writer=run, seq=number // runs, time=AT)
        records.append(StoredRecord(number, encode(body), to_headers(envelope)))
    return records


def in_batches(records: list[StoredRecord], per_event: int) -> Iterator[list[StoredRecord]]:
    """Yield the records in batches of about ``BATCH_POINTS`` points."""
    size = max(1, BATCH_POINTS // per_event)
    for first in range(0, len(records), size):
        yield records[first : first + size]


def decoded(records: list[StoredRecord]) -> Batch:
    """Return a batch of records, decoded as the projector does."""
    events = tuple(event for event in map(decode_record, records) if isinstance(event, Event))
    assert len(events) == len(records)
    place = TopicPartition(topics.METRICS, 0)
    return Batch(events, (), {place: records[-1].offset + 1}, {place: records[0].offset})


@pytest.mark.slow
@pytest.mark.parametrize("per_event", [1000, 100, 10])
async def test_points_per_second_into_duckdb(tmp_path: Path, per_event: int) -> None:
    points = POINTS if per_event >= 1000 else POINTS // 4
    records = encoded_records(points, per_event)
    projection = DuckdbProjection(DuckdbSettings(file=tmp_path / "history.duckdb", threads=1))
    await projection.open()
    decoding = applying = 0.0
    cpu = time.process_time()
    for chunk in in_batches(records, per_event):
        begun = time.perf_counter()
        batch = decoded(chunk)
        ready = time.perf_counter()
        await projection.apply(batch)
        decoding += ready - begun
        applying += time.perf_counter() - ready
    cpu = time.process_time() - cpu
    rate = points / (decoding + applying)
    print(
        f"\n{per_event} points per event: {rate / 1e6:.2f} M points/s ({points / cpu / 1e6:.2f} M per CPU second); "
        f"decode {points / decoding / 1e6:.2f} M/s, apply {points / applying / 1e6:.2f} M/s"
    )
    [(stored,)] = await projection.owner.run(
        lambda connection: connection.sql("SELECT count(*) FROM points").fetchall()
    )
    await projection.close()
    assert stored == points
