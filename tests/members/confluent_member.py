"""librdkafka (confluent-kafka) as a member of a group: see ``member.py`` for the protocol."""

import sys
import threading

from confluent_kafka import Consumer


def main(address: str, topic: str, group: str, session_ms: int) -> None:
    """Read until the standard input ends."""
    stopped = threading.Thread(target=sys.stdin.read, daemon=True)
    stopped.start()
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": 200,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "range,roundrobin",
            "log_level": 2,
        }
    )
    consumer.subscribe([topic])
    had: list[int] = []
    while stopped.is_alive():
        messages = consumer.consume(100, 0.1)
        has = sorted(place.partition for place in consumer.assignment())
        if has != had:
            print("has", ",".join(map(str, has)), flush=True)
            had = has
        for message in messages:
            if message.error() is None:
                print("read", (message.value() or b"").decode(), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
