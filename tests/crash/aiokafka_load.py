"""aiokafka under load, set up as every producer of ours: see ``load_client.py`` for the protocol."""

import asyncio
import sys

from runtide.kafka import KafkaSettings, new_producer, quiet_loggers
from tests.crash.load_client import PAUSE_EVERY, PAUSE_SECONDS, UNANSWERED, padded


async def main(name: str, address: str, topic: str, partitions: int) -> None:
    """Produce until the standard input ends."""
    quiet_loggers(50)
    stopped = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    producer = new_producer(KafkaSettings(bootstrap=address), retry_backoff_ms=20)
    await producer.start()
    sent: set[asyncio.Task[None]] = set()
    number = 0
    while not stopped.done():
        future = await producer.send(topic, padded(name, number), partition=number % partitions)
        sent.add(asyncio.create_task(_tell(future, number)))
        number += 1
        if number % PAUSE_EVERY == 0:
            await asyncio.sleep(PAUSE_SECONDS)
        while len(sent) > UNANSWERED:
            done, sent = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    await asyncio.gather(*sent)
    print("done", number, flush=True)
    await producer.stop()


async def _tell(future: "asyncio.Future[object]", number: int) -> None:
    record: object = await future
    print(record.partition, record.offset, number, flush=True)  # type: ignore[attr-defined]  # aiokafka's RecordMetadata


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
