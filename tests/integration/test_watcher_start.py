"""The watcher keeps nothing of its own: it has to come up whatever retention has left of the log."""

from pathlib import Path

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from runtide.direct import DirectPublisher
from runtide_schemas.events.runs import RunStarted
from runtide_schemas.topics import RUNS
from tests.integration.service_processes import Service, running_broker, started, with_topics
from tests.kafka_clients import aiokafka_admin


async def test_a_log_whose_beginning_is_gone_is_watched_from_where_it_begins(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap, spread=1)
        async with DirectPublisher(kafka, "test") as publisher:
            for name in ("first", "second"):
                await publisher.publish(RunStarted(run_id="a" * 32, name=name, start_time=1))
        async with aiokafka_admin(broker.bootstrap) as admin:
            await admin.delete_records({TopicPartition(RUNS, 0): RecordsToDelete(before_offset=1)})
        with started(Service(tmp_path, "watcher", "runtide_consumers.watcher", bootstrap=broker.bootstrap)) as watcher:
            watcher.ready()
            assert watcher.stop() == 0
