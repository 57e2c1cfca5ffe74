"""The seam of archive and log with a real broker: a log that is not the one that was archived is refused."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings, ensure_topics
from runtide_consumers.archive.bounds import log_bounds
from runtide_consumers.archive.deleting import delete_archived
from runtide_consumers.duckdb.custom_layout import FoldLayout
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import TopicPartition
from runtide_deploy.cli.archive import applied_positions
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import RunStarted
from runtide_schemas.topics import TOPICS
from tests.archived_log import AT, archive_runs, produce
from tests.broker_process import running_broker
from tests.custom_projections import EXAMPLE, install
from tests.event_log import EventLog

RUN = "a" * 32
RUNS0 = TopicPartition(topics.RUNS, 0)


async def test_a_log_that_was_restored_from_a_copy_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    """It gives offsets that the archive has to other records."""
    to, copy = tmp_path / "archive", tmp_path / "copy"
    with running_broker(tmp_path / "broker") as broker:
        kafka = KafkaSettings(bootstrap=broker.address)
        await ensure_topics(kafka, spread=2)
        await produce(kafka, topics.RUNS, 15)
        broker.stop()
        shutil.copytree(tmp_path / "broker", copy)
        broker.start()
        await produce(kafka, topics.RUNS, 5, first=15)
        await archive_runs(kafka, to)
    with running_broker(copy) as broker:
        restored = KafkaSettings(bootstrap=broker.address)
        with pytest.raises(InvalidRequest, match=r"goes to offset 19, and the log to 14.* its end was lost"):
            await archive_runs(restored, to, until_ms=AT + 5_000)
        with pytest.raises(InvalidRequest, match="goes to offset 19"):
            await delete_archived(restored, str(to), TOPICS, [{RUNS0: 15}])
        await produce(restored, topics.RUNS, 5, first=100)
        for until in (None, AT + 5_000):
            with pytest.raises(InvalidRequest, match="has another record at offset 19 than the log"):
                await archive_runs(restored, to, until_ms=until)
        with pytest.raises(InvalidRequest, match="has another record at offset 19 than the log"):
            await delete_archived(restored, str(to), TOPICS, [{RUNS0: 15}])
        assert (await log_bounds(restored, {topics.RUNS}))[RUNS0].begin == 0


PLAIN = """
from runtide_consumers.duckdb.projection import DuckdbProjection
class Plain(DuckdbProjection):
    pass
"""


async def test_projections_of_an_operators_own_count_whose_file_is_there(
    tmp_path: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"layers": "gradient_rollups:GradientRollups", "unused": "gradient_rollups:GradientRollups"}
    install(tmp_path / "site", "two_rollups", named)
    install(tmp_path / "site", "plain_projection", {"plain": "plain_projection:Plain"}, PLAIN)
    for folder in (EXAMPLE, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(folder))
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    monkeypatch.setenv("RUNTIDE_PROJECTIONS_FOLDER", str(directory.folder("projections")))
    directory.secret("history-token")
    file = directory.folder("projections") / "layers" / "layers.duckdb"
    file.parent.mkdir()
    kind = import_module("gradient_rollups").GradientRollups
    history = DuckdbSettings(file=directory.folder("history") / "history.duckdb")
    log, settings = EventLog(), DuckdbSettings(file=file)
    for name in "ab":
        log.add(RunStarted(run_id=RUN, name=name, start_time=AT))
    opened = DuckdbProjection(settings, FoldLayout("layers", kind())), DuckdbProjection(history)
    for projection in (*opened, PostgresProjection(postgres_dsn)):
        await projection.open()
        await projection.apply(log.everything())
        await projection.close()
    monkeypatch.setattr(DataDirectory, "ports", lambda _: {"history": 1})  # where nobody answers
    found, unknown = await applied_positions(directory.path, postgres_dsn)
    assert [dict(one) for _, one in found] == [dict.fromkeys(log.partitions, 2)] * 3
    assert found[2][0] == {topics.RUNS, topics.METRICS, topics.QUARANTINE}
    assert len(unknown) == 1
    assert "plain is a projection over a store of its own" in unknown[0]
