"""The PostgreSQL projection as it is started and rebuilt by its name."""

import argparse
import asyncio
from typing import Self

from pydantic import ValidationError

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.postgres.settings import PostgresSettings
from runtide_consumers.process import Ready, kafka_settings, once
from runtide_consumers.program import feed
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.upgrade import upgrade
from runtide_schemas.errors import InvalidRequest

_OPTIONS = {"dsn": "dsn", "password_file": "password_file", "tables": "schema", "upgrade": "upgrade"}


class PostgresProgram:
    """Implements ``Program``."""

    process_name = "postgres-projector"
    description = "Fold the log into PostgreSQL."

    def __init__(self, name: str = PostgresProjection.name) -> None:
        self.name = name

    @classmethod
    def program(cls, name: str) -> Self:
        """Return what is run by this name."""
        return cls(name)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which database it is, and whether older tables are rebuilt."""
        self.add_rebuild_options(parser)
        parser.add_argument(
            "--upgrade",
            action="store_true",
            default=None,
            help="rebuild tables of an older layout first (else: refuse them)",
        )

    def add_rebuild_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which database it is."""
        parser.add_argument("--dsn", help="default: RUNTIDE_POSTGRES_DSN")
        parser.add_argument(
            "--password-file", help="file with the password of the DSN (default: RUNTIDE_POSTGRES_PASSWORD_FILE)"
        )
        parser.add_argument("--schema", help="schema that holds the tables (default: runtide)")

    def check(self, arguments: argparse.Namespace) -> None:
        """Look whether a database is named."""
        _settings(arguments)

    async def serve(self, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
        """Keep the tables up to date."""
        settings = _settings(arguments)
        announce = once(lambda: ready(f"postgres schema={settings.tables}"))

        async def begins() -> None:
            announce()

        if settings.upgrade:
            await upgrade(self.store(arguments), kafka_settings(arguments), stop, begins)
        await feed(PostgresProjection(settings.address(), settings.tables), arguments, stop, announce)

    def store(self, arguments: argparse.Namespace) -> RebuildableStore:
        """Return the schema."""
        settings = _settings(arguments)
        return PostgresStore(settings.address(), settings.tables)


def _settings(arguments: argparse.Namespace) -> PostgresSettings:
    given = {name: getattr(arguments, option, None) for name, option in _OPTIONS.items()}
    try:
        return PostgresSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InvalidRequest("--dsn or RUNTIDE_POSTGRES_DSN is needed") from error
