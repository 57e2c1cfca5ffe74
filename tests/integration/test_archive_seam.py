"""The seam of archive and log with a real broker: a log that is not the one that was archived is refused."""

import shutil
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings, ensure_topics
from runtide_consumers.archive.bounds import log_bounds
from runtide_consumers.archive.deleting import delete_archived
from runtide_consumers.projection import TopicPartition
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.topics import TOPICS
from tests.archived_log import AT, archive_runs, produce
from tests.broker_process import running_broker

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
