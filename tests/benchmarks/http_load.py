"""``python -m tests.benchmarks.http_load ADDRESS``: how long MLflow's REST calls take, and how many a server takes at once.

A client that hardly costs anything: requests are bytes made beforehand, answers are read up to their length and not parsed while
the clock runs. The last line of standard output is JSON: figure to value. Only the standard library is used.
"""

import asyncio
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

API = "/api/2.0/mlflow"
CLIENTS = 8
CALLS = int(os.environ.get("RUNTIDE_BENCHMARK_CALLS", "300"))
SECONDS = float(os.environ.get("RUNTIDE_BENCHMARK_LOAD_SECONDS", "4"))
WARM_UP = 20
HISTORY = 1_000

Request = bytes


def post(path: str, body: Any) -> Request:
    """Return the bytes of a POST with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {API}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def get(path: str) -> Request:
    """Return the bytes of a GET."""
    return f"GET {API}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def length_of(answer: bytes) -> int:
    """Return how many bytes an answer has, or 0 while its head is not whole."""
    head, found, _ = answer.partition(b"\r\n\r\n")
    if not found:
        return 0
    assert head.startswith(b"HTTP/1.1 200 "), answer[:2000]
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return len(head) + 4 + int(line[15:])
    raise AssertionError(f"an answer without a length: {head!r}")


class Connection:
    """One kept connection; a call at a time."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, request: Request) -> bytes:
        """Return the answer, head and all."""
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 20)
        while not (length := length_of(answer)) or len(answer) < length:
            received = self._socket.recv(1 << 20)
            assert received, f"the server closed the connection: {answer!r}"
            answer += received
        return answer

    def ask(self, request: Request) -> Any:
        """Return what the answer says."""
        return json.loads(self.call(request).partition(b"\r\n\r\n")[2])


class Load(asyncio.Protocol):
    """One of several clients: sends its next request once the last one was answered, until it is told to stop."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests
        self._answer = b""
        self._transport: asyncio.Transport | None = None
        self.answered = 0
        self.stopping = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        try:
            length = length_of(self._answer)
        except AssertionError as error:
            self.ended.set_exception(error)
            return
        if not length or len(self._answer) < length or self._transport is None:
            return
        self._answer = b""
        self.answered += 1
        if self.stopping:
            self._transport.close()
            self.ended.set_result(None)
        else:
            self._transport.write(next(self._requests))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server closed the connection"))


async def throughput(address: str, requests: Callable[[int], Iterator[Request]]) -> float:
    """Return answered calls per second of eight clients; ``requests`` yields those of one of them."""
    host, _, port = address.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients = []
    for number in range(CLIENTS):
        made = requests(number)
        _, client = await loop.create_connection(lambda made=made: Load(made), host, int(port))  # type: ignore[misc]
        clients.append(client)
    await asyncio.sleep(SECONDS)
    for client in clients:
        client.stopping = True
    await asyncio.gather(*(client.ended for client in clients))
    return sum(client.answered for client in clients) / (time.perf_counter() - began)


def metric(run_id: str, key: str, step: int) -> dict[str, Any]:
    """Return a metric of a run, as ``log-metric`` takes it."""
    return {"run_id": run_id, "key": key, "value": step / 7, "timestamp": 1_700_000_000_000 + step, "step": step}


def batch(run_id: str, number: int, size: int) -> Request:
    """Return a ``log-batch`` of ten metrics over ``size / 10`` steps."""
    points = [
        {"key": f"m{key}", "value": step / 7 + key, "timestamp": 1_700_000_000_000 + step, "step": step}
        for step in range(number * size // 10, (number + 1) * size // 10)
        for key in range(10)
    ]
    return post("runs/log-batch", {"run_id": run_id, "metrics": points})


def timed(connection: Connection, make: Callable[[int], Request], calls: int = CALLS) -> tuple[float, float]:
    """Return the median and the 99th percentile of a call, in milliseconds."""
    took = []
    for number in range(WARM_UP + calls):
        request = make(number)
        began = time.perf_counter_ns()
        connection.call(request)
        took.append((time.perf_counter_ns() - began) / 1e6)
    took = took[WARM_UP:]
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def latencies(connection: Connection, experiment: str) -> dict[str, float]:
    """Return both percentiles of every call."""

    def new_run(number: int = 0) -> Request:
        return post("runs/create", {"experiment_id": experiment, "start_time": 1, "run_name": f"run {number}"})

    def run() -> str:
        found: str = connection.ask(new_run())["run"]["info"]["run_id"]
        return found

    figures: dict[str, tuple[float, float]] = {"create_run": timed(connection, new_run)}
    logged, batched, known = run(), run(), run()
    figures["log_metric"] = timed(connection, lambda step: post("runs/log-metric", metric(logged, "m", step)))
    figures["log_param"] = timed(
        connection, lambda number: post("runs/log-parameter", {"run_id": logged, "key": f"p{number}", "value": "1"})
    )
    figures["set_tag"] = timed(
        connection,
        lambda number: post("runs/set-tag", {"run_id": logged, "key": f"t{number % 50}", "value": f"{number}"}),
    )
    figures["log_batch of 100"] = timed(connection, lambda number: batch(batched, number, 100))
    for number in range(HISTORY // 100):
        connection.call(batch(known, number, 1_000))
    figures["get_run"] = timed(connection, lambda _: get(f"runs/get?run_id={known}"))
    figures["get_history of 1,000"] = timed(
        connection, lambda _: get(f"metrics/get-history?run_id={known}&metric_key=m0&max_results=1000"), CALLS // 3
    )
    search = {"experiment_ids": [experiment], "filter": "metrics.m0 > 1", "order_by": ["metrics.m0 DESC"]}
    figures["search_runs"] = timed(connection, lambda _: post("runs/search", search | {"max_results": 50}), CALLS // 3)
    return {
        f"{name}, {percentile} ms": value
        for name, both in figures.items()
        for percentile, value in zip(("p50", "p99"), both, strict=True)
    }


async def loads(connection: Connection, address: str, experiment: str) -> dict[str, float]:
    """Return what eight clients get through, each with a run of its own, and the same with reading back what was logged."""
    runs = [
        connection.ask(post("runs/create", {"experiment_id": experiment, "start_time": 1}))["run"]["info"]["run_id"]
        for _ in range(CLIENTS)
    ]

    def metrics(client: int) -> Iterator[Request]:
        step = 0
        while step := step + 1:
            yield post("runs/log-metric", metric(runs[client], "load", step))

    def params(client: int) -> Iterator[Request]:
        number = 0
        while number := number + 1:
            yield post("runs/log-parameter", {"run_id": runs[client], "key": f"p{number}", "value": "1"})

    def batches(client: int) -> Iterator[Request]:
        made = [batch(runs[client], number, 1_000) for number in range(40)]
        while True:
            yield from made

    figures: dict[str, float] = {}
    for name, requests in (("log_metric", metrics), ("log_param", params), ("log_batch of 1,000", batches)):
        began = time.perf_counter()
        figures[f"{name}, calls/s"] = await throughput(address, requests)
        took = time.perf_counter() - began
        reader = Connection(address)
        for run_id in runs:
            reader.call(get(f"metrics/get-history?run_id={run_id}&metric_key=load&max_results=1"))
        read = time.perf_counter() - began
        figures[f"{name}, calls/s until read back"] = figures[f"{name}, calls/s"] * took / read
    return figures


def main(address: str) -> None:
    """Measure one server."""
    connection = Connection(address)
    made = connection.ask(post("experiments/create", {"name": f"load {time.time_ns()}"}))
    experiment = made["experiment_id"]
    figures = latencies(connection, experiment)
    figures |= asyncio.run(loads(connection, address, experiment))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
