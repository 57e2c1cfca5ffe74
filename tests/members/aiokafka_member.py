"""aiokafka as a member of a group: see ``member.py`` for the protocol."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor


async def main(address: str, topic: str, group: str, session_ms: int) -> None:
    """Read until the standard input ends."""
    stopped = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=group,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=200,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    await consumer.start()
    had: list[int] = []
    while not stopped.done():
        records = await consumer.getmany(timeout_ms=100)
        has = sorted(place.partition for place in consumer.assignment())
        if has != had:
            print("has", ",".join(map(str, has)), flush=True)
            had = has
        for record in (record for chunk in records.values() for record in chunk):
            print("read", record.value.decode(), flush=True)
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
