"""How DuckDB's history is asked: the process that owns the file answers our statements as Arrow over HTTP.

Only statements of ``sql/history.sql`` go there; a user's SQL goes to ``sandbox/``.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import orjson

from runtide_queries.buckets import Bucket, cut
from runtide_queries.statements import load
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

MAX_POINTS = 100_000
MAX_BUCKETS = 2_500
SHORT_POINTS = 5_000
"""A curve of no more points is read as it is and cut here."""
_INLINE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric. ``timestamp`` in Unix milliseconds."""

    step: int
    timestamp: int
    value: float
    writer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One metric of one run, cut into buckets of equal spans of steps, in order."""

    run_id: str
    key: str
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterCurve:
    """One metric as one writer logged it. What the writer said of itself is null while its WriterOpened is missing.

    A rank that was restarted has a writer, and so a curve, for each attempt.
    """

    writer_id: str
    rank: int | None
    local_rank: int | None
    host: str | None
    client: str | None
    opened_at: int | None
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """A read-only copy of the history file, and the positions in the log it is complete to."""

    path: Path
    positions: dict[tuple[str, int], int]


class History:
    """The history store behind its owner's HTTP address.

    Raises from every question:
        TransientError: the owner is away or slow; try again.
        FatalError: the token is wrong; look at the option --history-token-file.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=2.0),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ``sql/history.sql``."""
        return list(zip(*await self.columns(name, **parameters), strict=True))

    async def columns(self, name: str, **parameters: Any) -> list[list[Any]]:
        """Return the columns of a statement of ``sql/history.sql``."""
        answer = await self._answer(name, parameters)
        if len(answer) <= _INLINE_BYTES and "pyarrow.ipc" in sys.modules:
            return _lists_of_arrow(answer)
        return await asyncio.to_thread(_lists_of_arrow, answer)

    async def arrays(self, name: str, **parameters: Any) -> list[Any]:
        """Return the columns of a statement of ``sql/history.sql`` as NumPy's arrays: of numbers that are never null."""
        answer = await self._answer(name, parameters)
        if len(answer) <= _INLINE_BYTES and "pyarrow.ipc" in sys.modules:
            return _arrays_of_arrow(answer)
        return await asyncio.to_thread(_arrays_of_arrow, answer)

    async def _answer(self, name: str, parameters: dict[str, Any]) -> bytes:
        statement = load("history")[name]
        statement.arguments(parameters)
        question = {"sql": statement.text, "parameters": parameters}
        reply = await self._asked("POST", "/query", json=question)
        _check(reply)
        return reply.content

    async def _asked(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with _translated(self._client.base_url):
            try:
                return await self._client.request(method, path, **options)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                # A connection that was kept may be closed by the other end just as it is used again; a question can be repeated.
                return await self._client.request(method, path, **options)

    async def snapshot(self) -> StoredSnapshot:
        """Return a consistent copy of the history for the SQL sandbox."""
        found = _json(await self._asked("POST", "/snapshot"))
        return StoredSnapshot(path=Path(found["path"]), positions=parse_positions(found["positions"]))

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset that the DuckDB projection reads, per (topic, partition)."""
        return parse_positions(_json(await self._asked("GET", "/health", timeout=5.0))["positions"])


async def metric_history(history: History, run_id: str, key: str, *, most: int = MAX_POINTS) -> tuple[Point, ...]:
    """Return every point of a curve, ordered by timestamp, step and value; empty for an unknown run or key.

    Raises:
        InvalidRequest: it has more than ``most`` points; ask for buckets.
    """
    rows = await history.rows("metric_history", run_id=run_id, key=key, most=most + 1)
    if len(rows) > most:
        raise InvalidRequest(
            f"metric {key!r} of run {run_id} has more than {most} points; ask for ?points=1000 buckets"
        )
    return tuple(Point(*row) for row in rows)


async def curve(history: History, run_id: str, key: str, *, buckets: int) -> tuple[Bucket, ...]:
    """Return one curve, cut into at most ``buckets`` spans of steps; empty for an unknown run or key."""
    _check_buckets(buckets)
    step, timestamp, value = await history.arrays("curve_points", run_id=run_id, key=key, most=SHORT_POINTS + 1)
    if len(step) <= SHORT_POINTS:
        return cut(step, timestamp, value, buckets)
    columns = await history.columns("curve", run_id=run_id, key=key, buckets=buckets)
    return tuple(map(Bucket, *columns))


async def curves(history: History, run_ids: Sequence[str], keys: Sequence[str], *, buckets: int) -> tuple[Curve, ...]:
    """Return the curves of several runs and metrics, each cut into at most ``buckets`` spans of steps."""
    _check_buckets(buckets)
    if not run_ids or not keys:
        return ()
    rows = await history.rows("curves", run_ids=list(run_ids), keys=list(keys), buckets=buckets)
    found: dict[tuple[str, str], list[Bucket]] = {}
    for run_id, key, *values in rows:
        found.setdefault((run_id, key), []).append(Bucket(*values))
    return tuple(Curve(run_id=run_id, key=key, buckets=tuple(each)) for (run_id, key), each in found.items())


async def writer_curves(history: History, run_id: str, key: str, *, buckets: int) -> tuple[WriterCurve, ...]:
    """Return one metric of a run as each of its writers logged it, ranks in order; ``curves`` takes all together.

    The buckets are the same spans of steps for every writer; those without a point are left out.
    """
    _check_buckets(buckets)
    rows = await history.rows("writer_curves", run_id=run_id, key=key, buckets=buckets)
    about = tuple(WriterCurve.__dataclass_fields__)[:-1]
    found: dict[tuple[Any, ...], list[Bucket]] = {}
    for row in rows:
        found.setdefault(tuple(row[: len(about)]), []).append(Bucket(*row[len(about) :]))
    return tuple(
        WriterCurve(**dict(zip(about, writer, strict=True)), buckets=tuple(each)) for writer, each in found.items()
    )


def parse_positions(found: Any) -> dict[tuple[str, int], int]:
    """Return positions by (topic, partition) from the owner's JSON: ``{"topic": {"partition": offset}}``."""
    return {
        (topic, int(partition)): int(offset)
        for topic, partitions in found.items()
        for partition, offset in partitions.items()
    }


def _check_buckets(buckets: int) -> None:
    if not 1 <= buckets <= MAX_BUCKETS:
        raise InvalidRequest(f"A curve is cut into 1 to {MAX_BUCKETS} points, got {buckets}")


def _lists_of_arrow(data: bytes) -> list[list[Any]]:
    return list(map(_values, _arrow(data).columns))


def _arrays_of_arrow(data: bytes) -> list[Any]:
    return list(map(_array, _arrow(data).columns))


def _values(column: Any) -> list[Any]:
    """Return a column's values. Numbers go through NumPy, which takes a twentieth of the time of pyarrow's own way."""
    from pyarrow import types

    plain = column.null_count == 0 and (types.is_integer(column.type) or types.is_floating(column.type))
    found: list[Any] = _array(column).tolist() if plain else column.to_pylist()
    return found


def _array(column: Any) -> Any:
    # Not by pyarrow's to_numpy: that loads pandas where it is installed, which takes half a second and 50 MB.
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks]) if column.num_chunks else np.empty(0)


def _arrow(data: bytes) -> Any:
    # Imported late: pyarrow's 60 MB of memory are only paid by a gateway that is asked for history.
    from pyarrow import ipc

    return ipc.open_stream(data).read_all()


def _json(reply: httpx.Response) -> Any:
    _check(reply)
    return orjson.loads(reply.content)


def _check(reply: httpx.Response) -> None:
    if reply.status_code in {401, 403}:
        raise FatalError(f"the history store at {reply.url} refuses our token; check --history-token-file")
    if reply.status_code >= 500:
        raise TransientError(
            f"the history store cannot answer now ({reply.status_code}: {reply.text[:300]}); try again"
        )
    if reply.status_code in {400, 413}:
        raise InvalidRequest(f"the history store refuses: {_message(reply)}")
    if reply.status_code != 200:
        raise FatalError(f"the history store answered {reply.status_code}: {reply.text[:300]}; is --history-url right?")


def _message(reply: httpx.Response) -> str:
    try:
        return str(orjson.loads(reply.content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return reply.text[:300]


@asynccontextmanager
async def _translated(url: httpx.URL) -> AsyncIterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise TransientError(f"the history store at {url} did not answer in time; try again") from error
    except httpx.HTTPError as error:
        raise TransientError(
            f"the history store at {url} is away ({type(error).__name__}: {error}); try again when it is back"
        ) from error
