"""The watcher keeps nothing of its own: it has to come up whatever retention has left of the log."""

import asyncio
from pathlib import Path

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from runtide.direct import DirectPublisher
from runtide_schemas.events.liveness import WriterAlive
from runtide_schemas.events.runs import RunLost, RunRecovered, RunStarted, WriterOpened
from runtide_schemas.topics import RUNS
from tests.integration.postgres_stack import eventually
from tests.integration.sdk_log import bodies, read_log
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


async def test_a_run_that_was_lost_while_no_watcher_ran_is_back_with_the_first_sign_of_life(tmp_path: Path) -> None:
    run_id = "a" * 32
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap, spread=2)
        async with DirectPublisher(kafka, "test") as publisher:
            writer = publisher.writer
            await publisher.publish(
                WriterOpened(run_id=run_id, at=1, writer_id=writer, host="h", pid=1, lease_ms=3_600_000)
            )
            await publisher.publish(WriterAlive(run_id=run_id, at=1, writer_id=writer))
            await publisher.publish(RunLost(run_id=run_id, at=1, episode=1, silent_since=1, writers={writer: 1}))
            with started(
                Service(tmp_path, "watcher", "runtide_consumers.watcher", bootstrap=broker.bootstrap)
            ) as watcher:
                await asyncio.to_thread(watcher.ready)
                assert await recovered(broker.bootstrap) == [], "it was heard before it was lost only"
                await publisher.publish(WriterAlive(run_id=run_id, at=1, writer_id=writer))

                async def is_back() -> bool:
                    return bool(await recovered(broker.bootstrap))

                await eventually(is_back, "the run is back")
                [fact] = await recovered(broker.bootstrap)
                assert (fact.run_id, fact.episode, fact.writer_id) == (run_id, 1, writer)
                assert await asyncio.to_thread(watcher.stop) == 0


async def recovered(bootstrap: str) -> list[RunRecovered]:
    """Return what the log says of runs that are back."""
    return bodies(await asyncio.to_thread(read_log, bootstrap), RunRecovered)
