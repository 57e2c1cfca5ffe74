"""Reads of the file by our own statements, beside the writer, each on a connection of its own."""

import asyncio
import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from runtide_consumers.duckdb.database_file import mark_damaged
from runtide_consumers.duckdb.errors import is_damage
from runtide_consumers.duckdb.log_state import read_positions
from runtide_consumers.duckdb.owner import Loan, Owner
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError, InvalidRequest, RuntideError, TransientError

_CHUNK_ROWS = 50_000
_INTERRUPT_AGAIN_S = 0.5
_REMEMBERED_CHARACTERS = 20_000


class QueryTimeout(TransientError):
    """A query took longer than it may."""


class AnswerTooLarge(InvalidRequest):
    """A query found more than one answer may hold."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found.

    Attributes:
        body: Arrow IPC stream.
        positions: next offset per partition that the answer is complete to, exactly: both are of one transaction.
    """

    body: memoryview
    positions: Mapping[TopicPartition, int]


class Queries:
    """Answers statements on a few threads, with a limit on time, rows and bytes."""

    def __init__(self, owner: Owner, settings: DuckdbSettings) -> None:
        """``owner`` has the file open."""
        self._owner = owner
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.query_threads, thread_name_prefix="duckdb-query")

    async def answer(self, sql: str, parameters: Mapping[str, Any]) -> Answer:
        """Return what one SELECT finds.

        Raises:
            InvalidRequest: it is no single SELECT, DuckDB refuses it, or it finds too much (AnswerTooLarge).
            QueryTimeout: it takes too long.
            TransientError: the file is not open (yet).
        """
        _check_statement(sql)
        loan = self._owner.lend()
        query = _Query(loan, self._settings)
        alarm = asyncio.get_running_loop().call_later(self._settings.query_seconds, query.expire)
        running = self._threads.submit(query.run, sql, parameters)
        running.add_done_callback(lambda _: loan.give_back())
        try:
            return await asyncio.wrap_future(running)
        finally:
            alarm.cancel()

    def close(self) -> None:
        """Take no more; what runs may end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Query:
    """One query on one connection, so that a late interrupt can hit no other."""

    def __init__(self, loan: Loan, settings: DuckdbSettings) -> None:
        self._cursor = loan.cursor
        self._file = loan.file
        self._settings = settings
        self._expired = False
        self._done = False

    def expire(self) -> None:
        """Interrupt the query, again and again until it has ended: an interrupt before its start goes unheard."""
        self._expired = True
        if self._done:
            return
        with contextlib.suppress(duckdb.Error):
            self._cursor.interrupt()
        asyncio.get_running_loop().call_later(_INTERRUPT_AGAIN_S, self.expire)

    def run(self, sql: str, parameters: Mapping[str, Any]) -> Answer:
        try:
            if self._expired:
                raise self._timeout()
            self._cursor.execute("BEGIN TRANSACTION READ ONLY")
            positions = read_positions(self._cursor)
            return Answer(self._stream(sql, parameters), positions)
        except duckdb.Error as error:
            raise self._translate(error) from error
        finally:
            self._done = True

    def _stream(self, sql: str, parameters: Mapping[str, Any]) -> memoryview:
        relation = self._cursor.sql(sql, params=dict(parameters) or None)
        sink = pa.BufferOutputStream()
        rows = 0
        with relation.to_arrow_reader(_CHUNK_ROWS) as reader, pa.ipc.new_stream(sink, reader.schema) as stream:
            for chunk in reader:
                stream.write_batch(chunk)
                rows += chunk.num_rows
                if rows > self._settings.query_rows or sink.tell() > self._settings.query_bytes:
                    raise AnswerTooLarge(
                        f"the answer has more than {self._settings.query_rows} rows or {self._settings.query_bytes} "
                        "bytes; ask for less, or for buckets"
                    )
        return memoryview(sink.getvalue())

    def _timeout(self) -> QueryTimeout:
        return QueryTimeout(f"the query took more than {self._settings.query_seconds:g} s; ask for less")

    def _translate(self, error: duckdb.Error) -> RuntideError:
        if isinstance(error, duckdb.InterruptException) or self._expired:
            return self._timeout()
        if is_damage(error):
            mark_damaged(self._file)
            return FatalError(f"the DuckDB file is damaged; restart its process to have it rebuilt: {error}")
        if isinstance(error, duckdb.OutOfMemoryException):
            return TransientError(f"the query needs more than {self._settings.memory_limit} of memory: {error}")
        return InvalidRequest(f"DuckDB refuses the query: {error}")


def _check_statement(sql: str) -> None:
    kinds = _kinds(sql) if len(sql) <= _REMEMBERED_CHARACTERS else _kinds.__wrapped__(sql)
    if kinds != (duckdb.StatementType.SELECT,):
        raise InvalidRequest(f"one SELECT is answered here, got {[kind.name for kind in kinds] or 'nothing'}")


@lru_cache(maxsize=256)
def _kinds(sql: str) -> tuple[duckdb.StatementType, ...]:
    """Return what kinds of statements a text has. Our own come again and again: reading one takes as long as a short answer."""
    try:
        return tuple(statement.type for statement in duckdb.extract_statements(sql))
    except duckdb.Error as error:
        raise InvalidRequest(f"this is no SQL that DuckDB reads: {error}") from error
