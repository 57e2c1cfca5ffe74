"""The log's archive with a real broker: byte for byte, whole or refused, and read as one with the log."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import avro.datafile
import avro.io
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, ensure_topics
from runtide_consumers.archive import manifest
from runtide_consumers.archive.bounds import log_bounds
from runtide_consumers.archive.deleting import OfSome, delete_archived
from runtide_consumers.archive.manifest import Archive, ArchiveDamaged
from runtide_consumers.archive.verifying import verify_archive
from runtide_consumers.archive.writing import archive_log
from runtide_consumers.duckdb.database_file import connect
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.parking import ParkingLimits
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.projection import Projection, TopicPartition
from runtide_consumers.projector import ProjectorSettings, run_projector
from runtide_consumers.rebuild.procedure import Wishes, rebuild
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.watch import LogWatch
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest, LogTruncated, TransientError
from runtide_schemas.events.runs import ParamsLogged, RunStarted
from runtide_schemas.topics import TOPICS
from tests.archived_log import (
    AT,
    BreakingFolder,
    Broken,
    archive_runs,
    archived,
    changed,
    delete_records,
    produce,
    read_all,
)
from tests.broker_process import BrokerProcess, running_broker
from tests.integration.postgres_stack import PostgresStack, points, running_stack
from tests.integration.s3_double import running_s3

RUNS0 = TopicPartition(topics.RUNS, 0)
RUNS = 5
SETTINGS = ProjectorSettings(parking=ParkingLimits(share=1.0))
RUNS1 = TopicPartition(topics.RUNS, 1)


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaSettings]:
    """A broker with topics."""
    with running_broker(tmp_path / "broker") as broker:
        yield settings_of(broker)


def settings_of(broker: BrokerProcess) -> KafkaSettings:
    """Return the settings of a broker, which has our topics then."""
    settings = KafkaSettings(bootstrap=broker.address)
    asyncio.run(ensure_topics(settings, spread=2))
    return settings


async def test_an_archive_holds_every_record_byte_for_byte_and_goes_on_where_it_ended(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    to = tmp_path / "archive"
    await produce(kafka, topics.RUNS, 40)
    await produce(kafka, topics.RUNS, 7, partition=1)
    added = await archive_runs(kafka, to, until_ms=AT + 20_000)
    assert (added.records, Archive.load(str(to)).span(RUNS0)) == (27, (0, 20))
    assert added.files == 4
    await archive_runs(kafka, to)
    before = changed(to.rglob("*"))
    assert asdict(await archive_runs(kafka, to)) == {"files": 0, "records": 0, "bytes": 0}
    assert changed(to.rglob("*")) == before
    found = await read_all(kafka, topics.RUNS)
    assert [len(found[RUNS0]), len(found[RUNS1])] == [40, 7]
    assert archived(to, topics.RUNS) == found
    assert foreign_values(to, "runtide.runs/0") == [value for _, _, _, value, _ in found[RUNS0]]
    verdict = await verify_archive(str(to))
    assert (verdict.problems, verdict.unnamed) == ((), ())
    assert (verdict.spans[RUNS0].records, verdict.spans[RUNS0].last_offset, verdict.spans[RUNS0].gaps) == (40, 39, 0)


def foreign_values(to: Path, below: str) -> list[bytes | None]:
    """Return the values that Apache's Avro library reads from the files of a partition."""
    found = []
    for path in sorted((to / "files" / below).iterdir()):
        with avro.datafile.DataFileReader(path.open("rb"), avro.io.DatumReader()) as reader:
            found += [row["value"] for row in reader]  # type: ignore[index]
    return found


async def test_archive_and_log_are_read_as_one_and_a_hole_is_refused(kafka: KafkaSettings, tmp_path: Path) -> None:
    to = tmp_path / "archive"
    whole = kafka.model_copy(update={"archive": str(to)})
    await produce(kafka, topics.RUNS, 40)
    await produce(kafka, topics.RUNS, 40, partition=1)
    everything = await read_all(kafka, topics.RUNS)
    await archive_runs(kafka, to, until_ms=AT + 30_000)
    for end in (1, 17, 30):
        await delete_records(kafka, {RUNS0: end, RUNS1: end // 2})
        assert await read_all(whole, topics.RUNS) == everything
        assert (await read_all(whole, topics.RUNS, 9))[RUNS0] == everything[RUNS0][9:]
        with pytest.raises(LogTruncated, match=r"from offset 0, but the log begins at .*RUNTIDE_ARCHIVE"):
            await read_all(kafka, topics.RUNS)
    await delete_records(kafka, {RUNS0: 33})
    with pytest.raises(LogTruncated, match=r"has offsets 0 to 29 of it: 30 to 32 are in neither"):
        await read_all(whole, topics.RUNS)
    with pytest.raises(LogTruncated, match=r"up to offset 29, and the log begins at 33"):
        await archive_runs(kafka, to)
    late = tmp_path / "late"
    await archive_runs(kafka, late)
    with pytest.raises(LogTruncated, match=r"has offsets 33 to 39 of it: 0 to 32 are in neither"):
        await read_all(kafka.model_copy(update={"archive": str(late)}), topics.RUNS)


async def test_who_reads_while_the_beginning_goes_is_told_to_try_again_and_finds_it_in_the_archive(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    to, wanted = tmp_path / "archive", asyncio.Event()
    whole = kafka.model_copy(update={"archive": str(to)})
    await produce(kafka, topics.RUNS, 40)
    await archive_runs(kafka, to)
    await produce(kafka, topics.QUARANTINE, 1)
    first = frozenset({topics.QUARANTINE})
    reader = await LogReader.open(whole, {topics.RUNS, topics.QUARANTINE}, {}, first=first)  # which holds runs back
    try:
        await delete_records(kafka, {RUNS0: 40})
        with pytest.raises(TransientError, match="reading on in the archive"):
            async with asyncio.timeout(60):
                while True:
                    await reader.fetch(BatchLimits(idle_s=0.1), wanted)
    finally:
        await reader.close()
    assert len((await read_all(whole, topics.RUNS))[RUNS0]) == 40


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True])
async def test_broken_off_at_any_write_nothing_is_wrong_and_the_next_call_goes_on(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    monkeypatch.setattr("runtide_consumers.archive.writing._COMMIT_FILES", 2)
    await produce(kafka, topics.RUNS, 30)
    everything = (await read_all(kafka, topics.RUNS))[RUNS0]
    to, writes, broken = tmp_path / "archive", 0, True
    while broken:
        writes += 1
        shutil.rmtree(to, ignore_errors=True)
        with monkeypatch.context() as patch:
            folder = BreakingFolder(to, writes, done)
            patch.setattr(manifest, "archive_folder", lambda _, folder=folder: folder)
            try:
                await archive_runs(kafka, to, until_ms=AT + 20_000)
            except Broken:
                broken = True
            else:
                broken = False
        half = await verify_archive(str(to))
        assert half.problems == ()
        assert archived(to, topics.RUNS).get(RUNS0, []) == everything[: half.spans[RUNS0].records if half.spans else 0]
        await archive_runs(kafka, to, until_ms=AT + 20_000)
        verdict = await verify_archive(str(to))
        assert (verdict.problems, verdict.unnamed) == ((), ()), writes
        await archive_runs(kafka, to)
        assert archived(to, topics.RUNS)[RUNS0] == everything
    assert writes > 6, "every write was the last one once"


def _first(pattern: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda to: change(min(to.glob(pattern)))


def _altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _last_removed(to: Path) -> None:
    max((to / "manifests").iterdir()).unlink()


def _exchanged(to: Path) -> None:
    one, other = sorted((to / "manifests").iterdir())[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is altered": (_first("files/*/*/*", _altered), "it was altered"),
    "a file is missing": (_first("files/*/*/*", Path.unlink), "is missing"),
    "a file is cut off": (_first("files/*/*/*", lambda path: path.write_bytes(b"")), "has 0 bytes"),
    "the first manifest is missing": (_first("manifests/*", Path.unlink), "00000001.json is missing"),
    "the last manifest is missing": (_last_removed, "tells of manifest 3"),
    "manifests are exchanged": (_exchanged, "does not follow the manifest before it"),
    "the first manifest says something else": (
        _first(
            "manifests/*", lambda path: path.write_text(path.read_text().replace('"unreadable": 0', '"unreadable": 1'))
        ),
        "does not follow the manifest before it",
    ),
    "a manifest is no JSON": (_first("manifests/*", lambda path: path.write_text("{")), "is no manifest"),
    "the head is missing": (lambda to: (to / "head.json").unlink(), "head.json is missing"),
    "the head is altered": (lambda to: (to / "head.json").write_text("{}"), "head.json is damaged"),
}


async def test_whatever_is_missing_or_altered_is_found_and_nothing_is_read_or_deleted(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    for number in range(3):
        await produce(kafka, topics.RUNS, 10, first=10 * number)
        await archive_runs(kafka, whole)
    for name, (damage, message) in DAMAGES.items():
        to = tmp_path / name
        shutil.copytree(whole, to)
        damage(to)
        with pytest.raises(ArchiveDamaged, match=message):
            verdict = await verify_archive(str(to))
            raise ArchiveDamaged("; ".join(verdict.problems))
        with pytest.raises(ArchiveDamaged, match=message):
            await delete_archived(kafka, str(to), TOPICS, [{RUNS0: 30}])
    await delete_records(kafka, {RUNS0: 30})
    for name, (_, message) in DAMAGES.items():
        with pytest.raises(ArchiveDamaged, match=message):
            await read_all(kafka.model_copy(update={"archive": str(tmp_path / name)}), topics.RUNS)
    assert len((await read_all(kafka.model_copy(update={"archive": str(whole)}), topics.RUNS))[RUNS0]) == 30


async def test_only_what_every_projection_has_applied_is_deleted(kafka: KafkaSettings, tmp_path: Path) -> None:
    to = str(tmp_path / "archive")
    await produce(kafka, topics.RUNS, 20)
    await produce(kafka, topics.CATALOG, 20)
    await archive_log(kafka, to, TOPICS, until_ms=AT + 15_000)
    catalog = TopicPartition(topics.CATALOG, 0)
    assert await delete_archived(kafka, to, TOPICS, [{RUNS0: 20}, {catalog: 20}]) == {}
    assert await delete_archived(kafka, to, TOPICS, [{RUNS0: 20, catalog: 20}, {RUNS0: 12}]) == {RUNS0: 12}
    behind: list[OfSome] = [({topics.RUNS}, {RUNS0: 13}), ({topics.METRICS}, {})]
    assert await delete_archived(kafka, to, TOPICS, [{RUNS0: 20, catalog: 20}], behind) == {RUNS0: 1}
    assert await delete_archived(kafka, to, TOPICS, [{RUNS0: 20, catalog: 20}]) == {RUNS0: 1}
    assert (await log_bounds(kafka, {topics.RUNS}))[RUNS0].begin == 14  # the last archived record stays: it is compared
    assert [
        len(records) for records in (await read_all(kafka.model_copy(update={"archive": to}), topics.RUNS)).values()
    ] == [20]
    assert len((await read_all(kafka, topics.CATALOG))[catalog]) == 20


@pytest.mark.slow
async def test_the_archive_of_another_log_is_refused(kafka: KafkaSettings, tmp_path: Path) -> None:
    to = tmp_path / "archive"
    await produce(kafka, topics.RUNS, 3)
    await archive_runs(kafka, to)
    other = BrokerProcess(tmp_path / "other").start()
    try:
        theirs = KafkaSettings(bootstrap=other.address)
        await ensure_topics(theirs, spread=2)
        await produce(theirs, topics.RUNS, 3)
        with pytest.raises(InvalidRequest, match="is the archive of the log"):
            await archive_runs(theirs, to)
        await delete_records(theirs, {RUNS0: 2})
        with pytest.raises(InvalidRequest, match="is the archive of the log"):
            await read_all(theirs.model_copy(update={"archive": str(to)}), topics.RUNS)
    finally:
        other.kill()


async def test_two_commands_at_one_archive_are_told_apart(kafka: KafkaSettings, tmp_path: Path) -> None:
    to = tmp_path / "archive"
    await produce(kafka, topics.RUNS, 3)
    one, other = Archive.load(str(to), "x"), Archive.load(str(to), "x")
    one.add([])
    with pytest.raises(InvalidRequest, match="another `runtide archive` is at work"):
        other.add([])
    assert Archive.load(str(to)).manifests == 1


@pytest.mark.slow
async def test_an_archive_in_an_object_store(kafka: KafkaSettings) -> None:
    to = "s3://bucket/log of 2026"
    await produce(kafka, topics.RUNS, 40)
    everything = await read_all(kafka, topics.RUNS)
    with running_s3():
        await archive_runs(kafka, to, until_ms=AT + 20_000)
        await archive_runs(kafka, to)
        verdict = await verify_archive(to)
        assert (verdict.problems, verdict.unnamed, verdict.spans[RUNS0].records) == ((), (), 40)
        assert await delete_archived(kafka, to, TOPICS, [{RUNS0: 40}]) == {RUNS0: 39}
        assert await read_all(kafka.model_copy(update={"archive": to}), topics.RUNS) == everything
        late, later = Archive.load(to), Archive.load(to)
        late.add([])
        with pytest.raises(InvalidRequest, match="another `runtide archive` is at work"):
            later.add([])
    with pytest.raises(TransientError, match=r"cannot read s3://bucket/log of 2026/head\.json"):
        await archive_runs(kafka, to)


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


@pytest.mark.gate
async def test_both_stores_are_rebuilt_from_archive_and_log_to_the_same_digests(
    stack: PostgresStack, tmp_path: Path
) -> None:
    """Fold, archive, delete from the log, rebuild: what was refused goes, and says the same."""
    to = tmp_path / "archive"
    kafka, whole = stack.kafka, stack.kafka.model_copy(update={"archive": str(to)})
    history = DuckdbSettings(file=tmp_path / "history.duckdb")
    stores: tuple[RebuildableStore, ...] = (PostgresStore(stack.dsn), DuckdbStore(history, None))
    await logged(kafka)
    await fold(PostgresProjection(stack.dsn), kafka)
    await fold(DuckdbProjection(history), kafka)
    before = await stack.digests(), history_digests(history)
    assert await stack.value("select sum(point_count)::int from metric_summaries") == 20 * RUNS
    added = await archive_log(kafka, str(to), TOPICS)
    gone = await delete_archived(kafka, str(to), TOPICS, [await store.live_positions() for store in stores])
    assert added.records == 2 + 3 * RUNS
    assert sum(gone.values()) == added.records - len(Archive.load(str(to)).places)  # the last of each stays
    for store in stores:
        with pytest.raises(LogTruncated, match=r"cannot be rebuilt: .*RUNTIDE_ARCHIVE"):
            await rebuild(store, kafka, LogWatch(), Wishes())
    await logged(kafka, first=RUNS)
    await fold(PostgresProjection(stack.dsn), kafka)
    await fold(DuckdbProjection(history), kafka)
    before = await stack.digests(), history_digests(history)
    for store in stores:
        comparison = await rebuild(store, whole, LogWatch(), Wishes())
        assert comparison is not None
        assert (comparison.differences, comparison.waiting) == ((), frozenset())
    assert (await stack.digests(), history_digests(history)) == before
    assert await stack.value("select count(*)::int from runs") == 2 * RUNS


async def logged(kafka: KafkaSettings, first: int = 0) -> None:
    """Some runs with points, and garbage, which is parked."""
    async with DirectPublisher(kafka, "writer") as publisher:
        for number in range(first, first + RUNS):
            run_id = f"{number:032x}"
            await publisher.publish(RunStarted(run_id=run_id, name=f"run {number}", start_time=AT))
            await publisher.publish(points(run_id, 0, 20))
            await publisher.publish(ParamsLogged(run_id=run_id, params={"number": str(number)}))
    await produce(kafka, topics.RUNS, 2)


async def fold(projection: Projection, kafka: KafkaSettings) -> None:
    """Fold all that the log holds."""
    done = asyncio.Event()
    await run_projector(projection, kafka, stop=done, ready=done.set, settings=SETTINGS)


def history_digests(settings: DuckdbSettings) -> Mapping[str, object]:
    """Return the digests of a DuckDB store's tables."""
    with contextlib.closing(connect(settings, Generations(settings.file).live)) as connection:
        return table_digests(connection)
