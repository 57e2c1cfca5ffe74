"""librdkafka (confluent-kafka) under load: see ``load_client.py`` for the protocol."""

import sys
import threading
import time
from functools import partial
from typing import Any

from confluent_kafka import Producer

from tests.crash.load_client import PAUSE_EVERY, PAUSE_SECONDS, UNANSWERED, padded

OPTIONS = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 2,
    "retry.backoff.ms": 20,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "message.timeout.ms": 120_000,
    "log_level": 2,
}


def main(name: str, address: str, topic: str, partitions: int) -> None:
    """Produce until the standard input ends."""
    stopped = threading.Thread(target=sys.stdin.read, daemon=True)
    stopped.start()
    producer = Producer({"bootstrap.servers": address, **OPTIONS})
    number = 0
    while stopped.is_alive():
        if len(producer) < UNANSWERED:
            producer.produce(
                topic, padded(name, number), partition=number % partitions, on_delivery=partial(_tell, number)
            )
            number += 1
        producer.poll(0)
        if number % PAUSE_EVERY == 0 or len(producer) >= UNANSWERED:
            time.sleep(PAUSE_SECONDS)
    left = producer.flush(120)
    if left:
        raise TimeoutError(f"{left} records were not answered")
    print("done", number, flush=True)


def _tell(number: int, error: Any, message: Any) -> None:
    if error is not None:
        raise RuntimeError(f"record {number} was refused: {error}")
    offset = message.offset()
    print(message.partition(), -1 if offset is None or offset < 0 else offset, number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
