"""``runtide archive``: closed ranges of the log kept as Avro files, verified, and deleted from the log when wanted."""

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from runtide.connection import Connection, as_uri
from runtide_deploy.cli.extras import require_extra
from runtide_deploy.cli.formatting import new_console, size
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.topics import LIVENESS, QUARANTINE, TOPICS

if TYPE_CHECKING:
    from runtide.kafka import KafkaSettings
    from runtide_consumers.archive.deleting import OfSome
    from runtide_consumers.archive.verifying import Verdict
    from runtide_consumers.projection import TopicPartition


class _WritesByDefault(TyperGroup):
    """``runtide archive TO`` is ``runtide archive write TO``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["write", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WritesByDefault,
    help="Keep closed ranges of the log as Avro files: `runtide archive TO` writes, `runtide archive verify TO` reads back.\n\n"
    "What writing can be told (which topics, how old, deleting from the log): `runtide archive write --help`.",
    no_args_is_help=True,
)
_PROBLEM = 3
_OURS = ("postgres", "duckdb")
_AGES = {"d": 86_400, "h": 3_600, "m": 60}
TO = typer.Argument(help="A folder, or a URI that fsspec knows (s3://bucket/log).")
DATA = typer.Option(None, help="The stack's directory; default: RUNTIDE_DATA, or ~/.local/share/runtide.")
BROKER = typer.Option(None, help="host:port of the log; default: the running stack's, or RUNTIDE_BROKER.")


@app.command()
def write(
    to: str = TO,
    topics: list[str] = typer.Option([], "--topics", "-t", help="Only this topic (may be repeated); default: all."),
    until: str = typer.Option(
        None, help="Only records before this time, say 2026-01-31 or 2026-01-31T12:00:00Z (without a zone: UTC)."
    ),
    older_than: str = typer.Option(None, help="Only records older than this: 30d, 12h or 90m."),
    delete: bool = typer.Option(
        False,
        "--delete",
        help="Then delete from the log what was read back and what both stores have applied, and projections of your own "
        "with a file in --data; runs, metrics and quarantine decisions only. Needs RUNTIDE_ARCHIVE to name this archive.",
    ),
    without_archive_setting: bool = typer.Option(
        False,
        "--without-archive-setting",
        help="Delete though RUNTIDE_ARCHIVE does not name this archive here: it is set where the stack runs, or will be.",
    ),
    file_mib: int = typer.Option(64, min=1, max=1024, help="How much goes into a file, before compression."),
    data: Path = DATA,
    broker: str = BROKER,
    postgres_dsn: str = typer.Option(
        None, help="PostgreSQL of a stack that was told to use one; default: RUNTIDE_POSTGRES_DSN, or its own."
    ),
) -> None:
    """Add to an archive what the log holds and the archive does not; begins one where there is none.

    Interrupted at any moment nothing is wrong, and the next call goes on. An archive belongs to one log and has no holes.
    """
    require_extra("server", "archive")
    from runtide.kafka import quiet_loggers
    from runtide_consumers.archive.writing import archive_log

    quiet_loggers()
    kafka, console = _log(broker, data), new_console()
    wanted = chosen_topics(topics)
    if delete and not without_archive_setting:
        check_archive_setting(kafka.archive, to)
    added = asyncio.run(archive_log(kafka, to, wanted, bound_ms(until, older_than), file_mib * 1024 * 1024))
    console.print(
        f"{escape(to)}: {added.files:,} files with {added.records:,} records added ({size(added.bytes)})",
        highlight=False,
    )
    if delete:
        _delete(console, kafka, to, wanted, Connection.resolve(broker=broker, data=data).data, postgres_dsn)


@app.command()
def verify(
    to: str = TO,
    broker: str = typer.Option(None, help="host:port of the log that it has to be of; default: any log."),
) -> None:
    """Read all of an archive back: digests, records and offsets. Exit code 3 when something is missing or altered."""
    require_extra("server", "archive")
    from runtide.kafka import cluster_id
    from runtide.kafka_settings import read_kafka_settings
    from runtide_consumers.archive.verifying import verify_archive

    async def read_back() -> "Verdict":
        log_id = await cluster_id(read_kafka_settings(bootstrap=broker)) if broker else ""
        return await verify_archive(to, log_id)

    verdict, console = asyncio.run(read_back()), new_console()
    if not verdict.spans:
        left = f", but {len(verdict.unnamed):,} files that no manifest names" if verdict.unnamed else ""
        raise InvalidRequest(f"{to} holds no archive{left}: check the path, or begin one with `runtide archive {to}`")
    _print_verdict(console, to, verdict)
    if verdict.problems:
        raise typer.Exit(_PROBLEM)


def chosen_topics(named: list[str]) -> frozenset[str]:
    """Return the topics that are meant: all of ours when none is named, but for signs of life, which nobody folds later.

    Raises:
        InvalidRequest: one is not ours.
    """
    for name in named:
        if name not in TOPICS:
            raise InvalidRequest(f"{name!r} is no topic of Runtide's; there are {', '.join(sorted(TOPICS))}")
    return frozenset(named or TOPICS.keys() - {LIVENESS})


def bound_ms(until: str | None, older_than: str | None, now_s: float | None = None) -> int | None:
    """Return the time that records have to be older than, in Unix milliseconds; None when any will do.

    Raises:
        InvalidRequest: both are given, or one is no time.
    """
    if until and older_than:
        raise InvalidRequest("give either --until or --older-than, not both")
    if until:
        try:
            at = datetime.fromisoformat(until)
        except ValueError as error:
            raise InvalidRequest(f"--until {until!r} is no time: write 2026-01-31 or 2026-01-31T12:00:00Z") from error
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    if older_than:
        match = re.fullmatch(r"(\d{1,6})([dhm])", older_than)
        if match is None:
            raise InvalidRequest(f"--older-than {older_than!r} is no age: write 30d, 12h or 90m")
        return max(0, int(((time.time() if now_s is None else now_s) - int(match[1]) * _AGES[match[2]]) * 1000))
    return None


def check_archive_setting(setting: str, to: str) -> None:
    """Refuse to delete what whoever has to read the log again would not find.

    Raises:
        InvalidRequest: the setting names no archive, or another one.
    """
    if not setting or as_uri(setting) != as_uri(to):
        has = f"names {setting}" if setting else "is not set"
        raise InvalidRequest(
            f"nothing is archived or deleted: RUNTIDE_ARCHIVE {has}, and a projector or rebuild that has to read again what "
            f"--delete removes looks only there. Set RUNTIDE_ARCHIVE={to} for the stack and here; or, if the stack has it, "
            "give --without-archive-setting"
        )


def _log(broker: str | None, data: Path | None) -> "KafkaSettings":
    from runtide.kafka_settings import read_kafka_settings

    connection = Connection.resolve(broker=broker, data=data)
    if not connection.broker:
        raise InvalidRequest(
            "No broker is known. Start the stack with `runtide up`, or name the log with --broker host:port."
        )
    return read_kafka_settings(bootstrap=connection.broker)


def _delete(
    console: Console, kafka: "KafkaSettings", to: str, topics: frozenset[str], data: Path, postgres_dsn: str | None
) -> None:
    from runtide_consumers.archive.deleting import delete_archived

    async def delete() -> "Mapping[TopicPartition, int]":
        applied, unknown = await applied_positions(data, postgres_dsn)
        for why in unknown:
            console.print(f"[yellow]not counted: {escape(why)}[/]", highlight=False)
        return await delete_archived(kafka, to, topics, (), applied)

    gone = asyncio.run(delete())
    console.print(f"deleted from the log: {sum(gone.values()):,} offsets of {len(gone)} partitions", highlight=False)
    if not kafka.archive or as_uri(kafka.archive) != as_uri(to):
        console.print(
            f"[yellow]Set RUNTIDE_ARCHIVE={escape(to)} for the stack: a rebuild reads there what the log does not have.[/]"
        )


async def applied_positions(data: Path, postgres_dsn: str | None) -> "tuple[list[OfSome], list[str]]":
    """Return where the projections stand that have a store in a data directory, and in which topics; and who cannot be asked.

    Raises:
        FatalError: one of our two has no store yet, or a projection that is installed cannot be used.
        InvalidRequest: the directory is no stack's.
        TransientError: a store is away.
    """
    from runtide_consumers.registered import registrations
    from runtide_deploy.standalone.data_directory import DataDirectory
    from runtide_deploy.standalone.rebuildable import rebuildable_store

    found: list[OfSome] = []
    unknown = []
    for name in (*_OURS, *(name for name in registrations() if name not in _OURS)):
        try:
            store = rebuildable_store(name, DataDirectory(data), postgres_dsn)
        except InvalidRequest as error:
            if name in _OURS:
                raise
            unknown.append(f"the projection {name}: {error}")
            continue
        if await store.live_version() is not None:
            found.append((store.new().topics | {QUARANTINE}, await store.live_positions()))
        elif name in _OURS:
            raise FatalError(f"nothing is deleted: there is no {name} store yet that has applied it")
    return found, unknown


def _print_verdict(console: Console, to: str, verdict: "Verdict") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("partition", "offsets", "records", "without a record", "unreadable", "size"):
        table.add_column(column, no_wrap=True)
    for place, span in verdict.spans.items():
        table.add_row(
            f"{place.topic}/{place.partition}",
            f"{span.first_offset:,} to {span.last_offset:,}",
            f"{span.records:,}",
            f"{span.gaps:,}",
            f"{span.unreadable:,}",
            size(span.bytes),
        )
    console.print(table)
    if verdict.unnamed:
        console.print(f"[dim]{len(verdict.unnamed):,} files that no manifest names: left by an interrupted command[/]")
    for problem in verdict.problems:
        console.print(f"[red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
    if not verdict.problems:
        console.print(f"{escape(to)} is whole: the archive of the log {verdict.log_id}", highlight=False)
