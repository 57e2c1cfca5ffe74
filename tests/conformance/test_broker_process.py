"""Starting and stopping the broker as a process."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtide_deploy.broker import Broker, BrokerSettings, CannotStart
from tests.broker_process import BrokerProcess
from tests.kafka_clients import aiokafka_producer, create_topic, read_all


def run_broker(*options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runtide_deploy.broker", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_second_broker_on_the_same_data_is_refused(own_broker: BrokerProcess) -> None:
    result = run_broker("--data", own_broker.data, "--port", 0)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{own_broker.data} is used by another broker" in result.stderr
    own_broker.kill()
    own_broker.start()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_broker("--data", tmp_path / "data", "--port", port)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"port {port} on 127.0.0.1 is in use" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broker.json", '{"format": 99}', "has data format 99"),
        ("broker.json", "not json", "is damaged"),
        ("topics.json", '{"t": 1}', "broker.json is missing"),
    ],
)
def test_data_of_another_version_or_damaged_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    result = run_broker("--data", tmp_path, "--port", 0)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / name).read_text() == content


async def test_a_damaged_list_of_topics_is_refused(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic)
    own_broker.stop()
    (own_broker.data / "topics.json").write_text('{"t": 1}')
    result = run_broker("--data", own_broker.data, "--port", 0)
    assert result.returncode == 2
    assert "topics.json is damaged" in result.stderr


async def test_a_missing_list_of_topics_that_hold_records_is_refused(own_broker: BrokerProcess, topic: str) -> None:
    await create_topic(own_broker.address, topic)
    own_broker.kill()
    listed = own_broker.data / "topics.json"
    content = listed.read_bytes()
    listed.unlink()  # as after a crash while the first topic was created: nothing can be lost
    own_broker.start()
    own_broker.kill()
    listed.write_bytes(content)
    own_broker.start()
    async with aiokafka_producer(own_broker.address) as producer:
        await producer.send_and_wait(topic, b"v")
    own_broker.stop()
    listed.unlink()
    result = run_broker("--data", own_broker.data, "--port", 0)
    assert result.returncode == 2
    assert "topics.json is missing beside topics that hold records" in result.stderr


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    result = run_broker("--data", tmp_path, "--max-connections", 0)
    assert result.returncode == 2
    assert "max_connections" in result.stderr


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    environment = os.environ | {"RUNTIDE_BROKER_DATA": str(tmp_path), "RUNTIDE_BROKER_PORT": "99999"}
    result = subprocess.run(
        [sys.executable, "-m", "runtide_deploy.broker"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    assert "99999" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_clean_stop_keeps_and_answers_what_was_written(
    own_broker: BrokerProcess, topic: str, number: int
) -> None:
    await create_topic(own_broker.address, topic)
    process = own_broker.process
    assert process is not None
    assert process.stdout is not None
    async with aiokafka_producer(own_broker.address, retry_backoff_ms=20) as producer:
        sent = [asyncio.create_task(producer.send_and_wait(topic, os.urandom(1000))) for _ in range(100)]
        await asyncio.sleep(0.01)
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert process.stdout.read() == ""
        own_broker.start()
        offsets = [record.offset for record in await asyncio.wait_for(asyncio.gather(*sent), 90)]
    assert sorted(offsets) == list(range(100))
    [records] = (await read_all(own_broker.address, topic)).values()
    assert [record.offset for record in records] == list(range(100))


async def test_in_process_broker(tmp_path: Path) -> None:
    settings = BrokerSettings(data=tmp_path / "data", port=0)
    for round_number in range(2):
        async with Broker.start(settings) as broker:
            with pytest.raises(CannotStart, match="used by another broker"):
                async with Broker.start(settings):
                    pass
            if not round_number:
                await create_topic(broker.address, "t")
            async with aiokafka_producer(broker.address) as producer:
                assert (await producer.send_and_wait("t", b"x")).offset == round_number


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EOPNOTSUPP])
async def test_a_read_that_the_disk_must_serve_is_answered_from_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    preadv, readers = os.preadv, set()

    def reads(descriptor: int, memory: list[memoryview], position: int, flags: int = 0) -> int:
        if flags:
            raise OSError(error, os.strerror(error))
        readers.add(threading.current_thread())
        return preadv(descriptor, memory, position)

    async with Broker.start(BrokerSettings(data=tmp_path / "data", port=0)) as broker:
        await create_topic(broker.address, "t")
        async with aiokafka_producer(broker.address) as producer:
            await asyncio.gather(*[await producer.send("t", b"%d" % number) for number in range(100)])
        monkeypatch.setattr(os, "preadv", reads)
        [records] = (await read_all(broker.address, "t")).values()
    assert [record.value for record in records] == [b"%d" % number for number in range(100)]
    assert readers
    assert threading.main_thread() not in readers


async def test_a_failed_sync_ends_the_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    async with Broker.start(BrokerSettings(data=tmp_path / "data", port=0)) as broker:
        await create_topic(broker.address, "t")
        async with aiokafka_producer(broker.address, enable_idempotence=False, request_timeout_ms=500) as producer:
            monkeypatch.setattr(os, "fdatasync", fails)
            answer = asyncio.create_task(producer.send_and_wait("t", b"x"))
            with pytest.raises(OSError, match="Input/output error"):
                await asyncio.wait_for(asyncio.shield(broker.failed), 60)
            # On a slow machine the client may have given it up by now; what counts is that it was not told of a success.
            assert not (answer.done() and answer.exception() is None)
            answer.cancel()
