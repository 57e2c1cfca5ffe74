"""Segments: any Avro reader reads them as they are, and ours survives a torn end at any byte."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import numpy as np
import pytest

from runtide.spool.limits import SpoolLimits
from runtide.spool.sealing import MOST_POINTS
from runtide.spool.segment import SegmentReader, segment_files
from runtide.spool.segment_format import SpooledEvent
from runtide.spool.topic_log import TopicLog
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.codec import decode, encode
from runtide_schemas.errors import FatalError
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import DatasetInput, InputsLogged, ParamsLogged, RunEnded

RUN = "ab" * 16
PARAMS = {"learning rate": "0.1", "ünï": "çödé"}
BODIES = [
    ParamsLogged(run_id=RUN, params=PARAMS),
    InputsLogged(run_id=RUN, datasets=(DatasetInput(name="digits", digest="1", tags={"context": "training"}),)),
    RunEnded(run_id=RUN, status="FINISHED", end_time=1_700_000_000_000),
]


@pytest.fixture
def spool(tmp_path: Path) -> WriterSpool:
    return WriterSpool.create(tmp_path, RUN, SpoolLimits(), actor="alice")


def records_of(directory: Path, topic: str) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for name, _, path in segment_files(directory):
        if name == topic:
            with path.open("rb") as file:
                records += list(fastavro.reader(file))  # type: ignore[arg-type]  # records are dicts here
    return records


def test_plain_fastavro_reads_runs_and_requests(spool: WriterSpool) -> None:
    ids = [spool.append(body, time=1_700_000_000_123) for body in (*BODIES, CreateExperiment(name="x"))]
    records = [*records_of(spool.directory, topics.RUNS), *records_of(spool.directory, topics.REQUESTS)]
    assert [record["id"] for record in records] == ids
    assert [record["seq"] for record in records] == [0, 1, 2, 0]
    assert [record["type"] for record in records] == [
        "ParamsLogged",
        "InputsLogged",
        "RunEnded",
        "CreateExperiment",
    ]
    assert records[0]["body"] == {"run_id": RUN, "params": PARAMS}
    assert records[0]["time"] == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert records[0]["actor"] == "alice"


def test_plain_fastavro_reads_metrics(spool: WriterSpool) -> None:
    keys = [spool.keys.add(name) for name in ("loss", "accuracy")]
    for step in range(9_000):
        spool.points.append(keys[step % 2], step, 1_700_000_000_000, float("nan") if step == 5 else step * 0.5)
    spool.seal()
    records = records_of(spool.directory, topics.METRICS)
    assert [record["tail_end"] for record in records] == [MOST_POINTS, 9_000]
    values = np.concatenate([np.array(record["body"]["value"]) for record in records])  # type: ignore[index]
    assert np.isnan(values[5])
    assert values[6:].tolist() == [step * 0.5 for step in range(6, 9_000)]
    assert records[0]["body"]["keys"] == ["loss", "accuracy"]  # type: ignore[index]


def everything_in(path: Path) -> list[SpooledEvent]:
    with closing(SegmentReader(path)) as reader:
        return list(reader)


def test_our_reader_returns_what_goes_to_the_broker(spool: WriterSpool) -> None:
    for body in BODIES:
        spool.append(body)
    (_, _, path) = segment_files(spool.directory)[0]
    events = everything_in(path)
    assert [event.value() for event in events] == [encode(body) for body in BODIES]
    assert [decode(event.value()) for event in events] == BODIES
    assert dict(events[0].headers())["runtide_seq"] == b"0"


def test_a_torn_end_costs_the_torn_event_only(spool: WriterSpool, tmp_path: Path) -> None:
    for body in BODIES:
        spool.append(body)
    (topic, first, path) = segment_files(spool.directory)[0]
    whole = path.read_bytes()
    ends = []
    with closing(SegmentReader(path)) as reader:
        start = reader.end
        for _ in reader:
            ends.append(reader.end)
    assert ends[-1] == len(whole)
    for cut in (*range(0, start, 97), *range(start, len(whole))):
        directory = tmp_path / "cut" / str(cut)
        directory.mkdir(parents=True)
        (directory / path.name).write_bytes(whole[:cut])
        log = TopicLog(directory, topic)
        assert log.written == sum(end <= cut for end in ends), f"cut at {cut}"
        log.append(everything_in(path)[0])
        log.close()
        again = TopicLog(directory, topic)
        assert again.written == log.written
        read = [event.seq for seq in range(again.written) for event in again.read(seq, 1)]
        assert read == list(range(again.written)), "what is appended after the cut is readable"
        again.close()
    assert first == 0


def test_a_segment_grows_under_its_reader(spool: WriterSpool) -> None:
    spool.append(BODIES[0])
    with closing(SegmentReader(segment_files(spool.directory)[0][2])) as reader:
        assert [event.seq for event in reader] == [0]
        spool.append(BODIES[1])
        spool.append(BODIES[2])
        assert [event.seq for event in reader] == [1, 2]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs-000000000000.avro"
    for text in (b"PAR1 is another format", b"Obj\x01" + b"\x00" * 20, b"Obj\x01 damaged" + b"\xff" * 100_000):
        path.write_bytes(text)
        with pytest.raises(FatalError, match=r"no segment of spool format|ends within its header"):
            SegmentReader(path)
    with pytest.raises(FatalError):
        TopicLog(tmp_path, topics.RUNS)
    assert path.stat().st_size > 100_000, "what is damaged is never deleted"
