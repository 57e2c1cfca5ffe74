"""Requests about models and endpoints, from a run or from no run at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from runtide.artifacts.models import LoggedModel, describe_model
from runtide.catalogue import ask
from runtide.tracking.configuration import Configuration
from runtide.tracking.leftovers import say_leftover
from runtide.tracking.writer import Writer
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.requests import RegisterModelVersion, RequestDeployment, SetAlias
from runtide_schemas.limits import (
    MAX_ENTITY_TAG_VALUE_LENGTH,
    check_alias,
    check_endpoint,
    check_model_name,
    check_tags,
)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version of a model."""

    name: str
    version: int
    source: str
    run_id: str = ""
    model_id: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """What an endpoint is wanted to serve; ``generation`` counts the wishes for it, from 1."""

    endpoint: str
    model: str
    follow: str
    target: str
    generation: int


@contextmanager
def requests_writer(configuration: Configuration) -> Iterator[Writer]:
    """A writer that belongs to no run, for a request or two."""
    writer = Writer(configuration, "")
    try:
        yield writer
    finally:
        leftover = writer.close("finished", configuration.settings.exit_deadline)
        say_leftover("requests", leftover)
        if leftover is not None and leftover.interrupted:
            raise KeyboardInterrupt


def register_model(
    writer: Writer,
    name: str,
    model: LoggedModel | str,
    aliases: Sequence[str],
    tags: Mapping[str, object] | None,
    description: str,
    wait: float,
) -> ModelVersion:
    """See ``runtide.register_model``."""
    check_model_name(name)
    described = (
        model
        if isinstance(model, LoggedModel)
        else describe_model(model, writer.connection.gateway or writer.connection.uri)
    )
    fact = ask(
        writer,
        RegisterModelVersion(
            name=name,
            source=described.uri,
            run_id=described.run_id,
            model_id=described.model_id,
            digest=described.digest,
            flavors=described.flavors,
            description=description,
            tags=check_tags(tags or {}, MAX_ENTITY_TAG_VALUE_LENGTH),
            aliases=tuple(map(check_alias, aliases)),
        ),
        wait,
    )
    return ModelVersion(fact.name, fact.version, fact.source, fact.run_id, fact.model_id, fact.aliases)


def set_alias(writer: Writer, name: str, alias: str, version: int, expected: int | None, wait: float) -> None:
    """See ``runtide.set_alias``."""
    request = SetAlias(
        name=check_model_name(name), alias=check_alias(alias), version=int(version), expected_version=expected
    )
    ask(writer, request, wait)


def deploy(
    writer: Writer, endpoint: str, model: str, follow: str | int, target: str, config: Mapping[str, Any], wait: float
) -> Deployment:
    """See ``runtide.deploy``."""
    request = RequestDeployment(
        endpoint=check_endpoint(endpoint),
        model=check_model_name(model),
        target=target,
        config={str(key): str(value) for key, value in config.items()},
        **_followed(follow),
    )
    fact = ask(writer, request, wait)
    return Deployment(fact.endpoint, fact.model, fact.follow, fact.target, fact.generation)


def _followed(follow: str | int) -> dict[str, Any]:
    """``latest``, a version number, or an alias."""
    if follow == "latest":
        return {"follow": "latest"}
    if isinstance(follow, bool) or (isinstance(follow, int) and follow < 1):
        raise InvalidRequest(f"follow must be 'latest', an alias or a version number from 1, got {follow!r}")
    if isinstance(follow, int):
        return {"follow": "version", "version": follow}
    return {"follow": "alias", "alias": check_alias(follow)}
