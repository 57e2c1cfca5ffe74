"""The registry as the rest of the SDK and the consumers see it: ids for what is sent, decoders for what is read.

A subject is the full name of an event type (Confluent's RecordNameStrategy). Our topics hold several types, so a subject per
topic cannot be; and as each type goes to one topic, a topic's name in the subject would add nothing but a tie to it.
"""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from runtide.schema_registry.rest import FULL_TRANSITIVE, Forbidden, Missing, RegistryApi
from runtide.schema_registry.settings import SchemaRegistrySettings
from runtide_schemas import codec, confluent
from runtide_schemas.errors import FatalError, TransientError, UnknownSchema
from runtide_schemas.registry import EVENT_TYPES, published_schema, types_by_fingerprint
from runtide_schemas.released import releases, releases_of
from runtide_schemas.resolution import Decoder
from runtide_schemas.soundness import Schema

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 8
MOST_IDS = 10_000
MISSING_FOR_S = 10.0
"""How long an id that the registry does not know is not asked for again, once patience is over."""
COMMAND = "python -m runtide.schema_registry"


@dataclass(slots=True)
class _Missing:
    """An id that the registry lacks: since when, and when it was asked for it last (monotonic seconds)."""

    since: float
    asked: float


class SchemaRegistry:
    """What one process knows of a registry. Ids and schemas never change, so what was learnt is kept.

    Without a URL it does nothing: values are sent as they are, and an event that refers to a registry is an error.
    """

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        """Raises FatalError: the settings cannot be used."""
        self._settings = settings
        self._api = RegistryApi(settings) if settings.url.strip() else None
        self._headers: dict[bytes, bytes] = {}
        self._decoders: dict[int, Decoder] = {}
        self._refused: dict[int, str] = {}
        self._missing: dict[int, _Missing] = {}
        self._said: set[str] = set()

    @property
    def configured(self) -> bool:
        """Whether there is a registry at all."""
        return self._api is not None

    # --- what is sent

    def framed(self, value: bytes) -> bytes | None:
        """Return a record value as it has to be sent; None when its schema's id is not known yet: ``frame`` it then."""
        if self._api is None or value[:2] != codec.MARKER:
            return value
        header = self._headers.get(value[2 : codec.HEADER_SIZE])
        return None if header is None else header + value[codec.HEADER_SIZE :]

    async def frame(self, value: bytes) -> bytes:
        """Return a record value as it has to be sent: in the Confluent wire format, the body as it is.

        A body of a schema that this version does not know (a spool of a newer one) stays in single-object encoding, which
        readers take as well.

        Raises:
            TransientError: the registry is away.
            FatalError: it refuses the schema, or lacks it and may not be given it.
        """
        framed = self.framed(value)
        if framed is not None or self._api is None:
            return framed or value
        fingerprint = value[2 : codec.HEADER_SIZE]
        schema = _known_schema(fingerprint)
        if schema is None:
            self._say_once(f"schema {fingerprint.hex()} is of a newer version: its events are sent as they are")
            return value
        self._headers[fingerprint] = confluent.header(await self._id(self._api, schema))
        return self._headers[fingerprint] + value[codec.HEADER_SIZE :]

    async def register_all(self) -> int:
        """See to it that the registry has every version of every event type; return the number of versions.

        Raises:
            TransientError: the registry is away.
            FatalError: it refuses a schema, or lacks one and may not be given it.
        """
        api = self._api
        if api is None:
            return 0
        limit = asyncio.Semaphore(AT_ONCE)

        async def see_to(name: str) -> int:
            async with limit:
                return await self._register_type(api, name)

        return sum(await _together(see_to(name) for name in EVENT_TYPES))

    async def _register_type(self, api: RegistryApi, name: str) -> int:
        versions = [release.schema() for release in releases_of(name)]
        for release, schema in zip(releases_of(name), versions, strict=True):
            self._headers[release.fingerprint] = confluent.header(await self._id(api, schema))
        await self._make_strict(api, subject_name(versions[-1]))
        return len(versions)

    async def _id(self, api: RegistryApi, schema: Schema) -> int:
        subject, text = subject_name(schema), json.dumps(schema)
        if (found := await api.lookup(subject, text)) is not None:
            return found
        if not self._settings.register_schemas:
            raise FatalError(
                f"the schema registry {api} lacks a schema of subject {subject}, and "
                f"RUNTIDE_SCHEMA_REGISTRY_REGISTER_SCHEMAS is off: run `{COMMAND}` as somebody who may register schemas"
            )
        strict = await self._make_strict(api, subject)
        identifier = await api.register(subject, text)
        if not strict:
            await self._make_strict(api, subject)
        return identifier

    async def _make_strict(self, api: RegistryApi, subject: str) -> bool:
        """Set a subject's compatibility unless it is set; False when that cannot be before the subject has a version."""
        may_set = self._settings.set_compatibility and self._settings.register_schemas
        if not may_set or await api.compatibility(subject) == FULL_TRANSITIVE:
            return True
        try:
            await api.set_compatibility(subject, FULL_TRANSITIVE)
        except Missing:
            return False
        except Forbidden as error:
            self._say_once(f"the compatibility of our subjects stays as it is: {error}")
        return True

    # --- what is read

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Learn the schemas of all ids in record values, so that ``decoder`` knows them.

        Raises:
            TransientError: the registry is away; none of the values may be taken for unreadable.
            FatalError: it refuses to answer.
        """
        api = self._api
        if api is None:
            return
        wanted = {confluent.schema_id(value) for value in values if value and confluent.is_framed(value)}
        if len(self._refused) + len(self._missing) > MOST_IDS:  # somebody sends ids at random
            self._refused.clear()
            self._missing.clear()
        known = self._decoders.keys() | self._refused.keys()
        unknown = [one for one in wanted - known if self._may_ask(one)]
        for start in range(0, len(unknown), AT_ONCE):
            await _together(self._learn(api, one) for one in unknown[start : start + AT_ONCE])

    def decoder(self, identifier: int) -> Decoder:
        """Return the decoder of an id that was learnt.

        Raises:
            SchemaPending: the registry lacks the id, and has not lacked it for long.
            UnknownSchema: the registry has no such id, or its schema is of no event type of ours.
            NoRegistry: there is none.
            TransientError: it was not learnt.
        """
        if self._api is None:
            return confluent.no_registry(identifier)
        if (found := self._decoders.get(identifier)) is not None:
            return found
        if (reason := self._refused.get(identifier)) is not None:
            raise UnknownSchema(f"schema id {identifier}: {reason}")
        if (missing := self._missing.get(identifier)) is not None:
            text = f"the schema registry {self._api} does not know schema id {identifier}"
            raise confluent.SchemaPending(text) if self._is_young(missing) else UnknownSchema(text)
        raise TransientError(f"schema id {identifier} was not asked for")

    async def _learn(self, api: RegistryApi, identifier: int) -> None:
        try:
            schema = await api.schema(identifier)
        except Missing as error:
            log.warning("schema id %d: %s", identifier, error)
            now = time.monotonic()
            self._missing.setdefault(identifier, _Missing(now, now)).asked = now
            return
        self._missing.pop(identifier, None)
        try:
            self._decoders[identifier] = codec.decoder_of(schema)
        except UnknownSchema as error:
            self._refused[identifier] = str(error)

    def _may_ask(self, identifier: int) -> bool:
        missing = self._missing.get(identifier)
        return missing is None or self._is_young(missing) or time.monotonic() - missing.asked >= MISSING_FOR_S

    def _is_young(self, missing: _Missing) -> bool:
        return time.monotonic() - missing.since < self._settings.patience

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)


@cache
def registry_for(settings: SchemaRegistrySettings) -> SchemaRegistry:
    """Return this process's one view of a registry.

    Raises:
        FatalError: the settings cannot be used.
    """
    return SchemaRegistry(settings)


def subject_name(schema: Schema) -> str:
    """Return the subject that versions of a schema are registered under: its full name."""
    return f"{schema['namespace']}.{schema['name']}"


async def _together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all works return; when one fails, the others are not gone on with."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _known_schema(fingerprint: bytes) -> Schema | None:
    if (release := releases().get(fingerprint)) is not None:
        return release.schema()
    current = types_by_fingerprint().get(fingerprint)
    return None if current is None else published_schema(current.name)
