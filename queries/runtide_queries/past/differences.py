"""What changed between two moments of an entity: added, changed, removed; and the event that did it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtide_queries import deployments, experiments, models, runs
from runtide_queries.past.events import HistoryEvent, Kind, events_since, unknown
from runtide_queries.past.store import PastPostgres
from runtide_schemas.errors import InvalidRequest, NotFound

MAX_EVENTS = 10_000
"""Of more events in between, only the newest are looked through for those that changed something."""
_ALIAS_SET = ("AliasMoved", "ModelVersionRegistered")
Path = tuple[str, ...]
State = dict[Path, Any]
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that is another; null where it is not there. ``event`` is null for metrics, and for what another entity did."""

    what: str
    change: str
    before: Any
    after: Any
    event: HistoryEvent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """All differences of an entity between two moments, by name."""

    kind: Kind
    entity: str
    earlier: Mapping[str, str]
    later: Mapping[str, str]
    differences: tuple[Difference, ...]


async def compare_moments(kind: Kind, entity: str, earlier: PastPostgres, later: PastPostgres) -> Differences:
    """Return what changed.

    Raises:
        InvalidRequest: the moments stand the other way round.
        NotFound: the entity was not there at either moment.
    """
    before, after = await _state(kind, entity, earlier), await _state(kind, entity, later)
    if not before and not after:
        raise unknown(kind, entity, later.as_of["asked"])
    begin, end = earlier.positions, later.positions
    if any(end.get(place, 0) < offset for place, offset in begin.items()):
        raise InvalidRequest(
            f"{earlier.as_of['asked'][:100]!r} is not before {later.as_of['asked'][:100]!r}: give the earlier moment as from"
        )
    events = await events_since(later.frozen(), kind, entity, begin, MAX_EVENTS)
    paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    found = (_difference(path, before.get(path), after.get(path), events) for path in paths)
    return Differences(kind=kind, entity=entity, earlier=earlier.as_of, later=later.as_of, differences=tuple(found))


def _difference(path: Path, before: Any, after: Any, events: Sequence[HistoryEvent]) -> Difference:
    change = "added" if before is None else "removed" if after is None else "changed"
    if path[0] == "aliases":
        event = _alias_event(path[1], before, events)
        return Difference(what=".".join(path), change=change, before=before, after=after, event=event)
    by = [event for event in events if any(path[: len(touched)] == touched for touched in touches(event))]
    event = None if not by else by[-1] if path[0] == "params" else by[0]
    return Difference(what=".".join(path), change=change, before=before, after=after, event=event)


def touches(event: HistoryEvent) -> Iterator[Path]:
    """Yield beginnings of the names of all that an event may have changed."""
    yield from _TOUCHES.get(event.type, _anything)(event.body)


def _alias_event(alias: str, version: int | None, events: Sequence[HistoryEvent]) -> HistoryEvent | None:
    """Return the event that moved an alias last: deleting a version takes along the aliases that point at it."""
    found = None
    for event in reversed(events):
        if event.type == "ModelVersionDeleted":
            moved = version == event.body["version"]
        else:
            moved = any(("aliases", alias)[: len(touched)] == touched for touched in touches(event))
        if moved:
            found, version = event, event.body.get("version") if event.type in _ALIAS_SET else None
    return found


async def _state(kind: Kind, entity: str, past: PastPostgres) -> State:
    try:
        return {path: value for path, value in await _STATES[kind](entity, past) if value not in (None, "")}
    except NotFound:
        return {}


async def _run(entity: str, past: PastPostgres) -> list[tuple[Path, Any]]:
    found = await runs.get_run(past, entity)
    info = found.run.info
    told = ("name", "status", "experiment_id", "start_time", "end_time", "end_reason", "lifecycle_stage")
    return [
        *(((name,), getattr(info, name)) for name in told),
        *((("params", key), value) for key, value in found.run.params.items()),
        *((("tags", key), value) for key, value in found.run.tags.items()),
        *((("inputs", f"{one.name}@{one.digest}"), one.source or one.name) for one in found.inputs),
        *((("artifacts", one.path), one.sha256 or one.uri) for one in found.artifacts),
        *((("models", one.model_id), one.uri) for one in found.logged_models),
        *((("models", one.model_id, "status"), one.status) for one in found.logged_models),
        *((("writers", one.writer_id), one.close_reason or "open") for one in found.writers),
        *(
            (("metrics", key, name), getattr(metric, name))
            for key, metric in found.run.metrics.items()
            for name in ("last_value", "last_step", "min_value", "max_value", "point_count")
        ),
    ]


async def _experiment(entity: str, past: PastPostgres) -> list[tuple[Path, Any]]:
    found = await experiments.get_experiment(past, entity)
    told = ("name", "artifact_location", "lifecycle_stage")
    return [
        *(((name,), getattr(found.experiment, name)) for name in told),
        *((("tags", key), value) for key, value in found.tags.items()),
    ]


async def _model(entity: str, past: PastPostgres) -> list[tuple[Path, Any]]:
    found = await models.get_registered_model(past, entity)
    told = ("source", "run_id", "digest", "description", "stage")
    return [
        (("description",), found.model.description),
        *((("tags", key), value) for key, value in found.tags.items()),
        *((("aliases", alias), version) for alias, version in found.model.aliases.items()),
        *(
            (("versions", str(version.version), name), getattr(version, name))
            for version in found.versions
            for name in told
        ),
        *(
            (("versions", str(version.version), "tags", key), value)
            for version in found.versions
            for key, value in version.tags.items()
        ),
    ]


async def _endpoint(entity: str, past: PastPostgres) -> list[tuple[Path, Any]]:
    found = next((one for one in await deployments.list_endpoints(past) if one.endpoint == entity), None)
    if found is None:
        return []
    told = ("model", "follow", "alias", "version", "target", "generation")
    return [
        *(((name,), getattr(found, name)) for name in told),
        *((("config", key), str(value)) for key, value in found.config.items()),
        *(
            (("deployments", one.deployment_id, name), getattr(one, name))
            for one in found.deployments
            for name in ("version", "state", "url", "reason")
        ),
    ]


_STATES: dict[Kind, Callable[[str, PastPostgres], Awaitable[list[tuple[Path, Any]]]]] = {
    "run": _run,
    "experiment": _experiment,
    "model": _model,
    "endpoint": _endpoint,
}


def _anything(_: Body) -> list[Path]:
    return [()]


def _nothing(_: Body) -> list[Path]:
    """What is kept beside a run's models is no part of what is compared."""
    return []


def _keyed(group: str, name: str) -> Callable[[Body], list[Path]]:
    return lambda body: [(group, str(key)) for key in body[name]]


def _of_version(body: Body) -> list[Path]:
    return [("versions", str(body["version"]))]


def _version_tags(name: str) -> Callable[[Body], list[Path]]:
    return lambda body: [("versions", str(body["version"]), "tags", str(key)) for key in body[name]]


_STATUS: list[Path] = [("status",), ("end_time",), ("end_reason",)]
_TOUCHES: dict[str, Callable[[Body], list[Path]]] = {
    "RunStarted": lambda body: [
        *((name,) for name in ("name", "status", "experiment_id", "start_time", "lifecycle_stage")),
        *(("tags", key) for key in body["tags"]),
    ],
    "RunUpdated": lambda _: [("name",), *_STATUS],
    "RunEnded": lambda _: _STATUS,
    "RunDeleted": lambda _: [("lifecycle_stage",)],
    "RunRestored": lambda _: [("lifecycle_stage",)],
    "ParamsLogged": _keyed("params", "params"),
    "TagsSet": _keyed("tags", "tags"),
    "TagsDeleted": _keyed("tags", "keys"),
    "InputsLogged": lambda body: [("inputs", f"{one['name']}@{one['digest']}") for one in body["datasets"]],
    "ArtifactLogged": lambda body: [("artifacts", body["path"])],
    **{
        name: lambda body: [("models", body["model_id"])]
        for name in ("ModelLogged", "LoggedModelCreated", "LoggedModelFinalized", "LoggedModelDeleted")
    },
    **dict.fromkeys(
        (
            *("LoggedModelTagsSet", "LoggedModelTagsDeleted", "LoggedModelParamsLogged"),
            *("ModelMetricsLogged", "RunModelsLinked"),
        ),
        _nothing,
    ),
    "WriterOpened": lambda body: [("writers", body["writer_id"])],
    "WriterClosed": lambda body: [("writers", body["writer_id"])],
    "ExperimentRenamed": lambda _: [("name",)],
    "ExperimentDeleted": lambda _: [("lifecycle_stage",)],
    "ExperimentRestored": lambda _: [("lifecycle_stage",)],
    "ExperimentTagsSet": _keyed("tags", "tags"),
    "ExperimentTagsDeleted": _keyed("tags", "keys"),
    "RegisteredModelUpdated": lambda _: [("description",)],
    "RegisteredModelTagsSet": _keyed("tags", "tags"),
    "RegisteredModelTagsDeleted": _keyed("tags", "keys"),
    "ModelVersionRegistered": lambda body: [*_of_version(body), *(("aliases", alias) for alias in body["aliases"])],
    "ModelVersionUpdated": lambda body: [("versions", str(body["version"]), "description")],
    "ModelVersionDeleted": _of_version,
    "ModelVersionTagsSet": _version_tags("tags"),
    "ModelVersionTagsDeleted": _version_tags("keys"),
    "AliasMoved": lambda body: [("aliases", body["alias"])],
    "AliasDeleted": lambda body: [("aliases", body["alias"])],
    "StageTransitioned": lambda body: [
        ("versions", str(version), "stage") for version in (body["version"], *body["archived_versions"])
    ],
    "DeploymentRequested": lambda _: [
        (name,) for name in ("model", "follow", "alias", "version", "target", "generation", "config")
    ],
    **{
        name: lambda body: [("deployments", body["deployment_id"])]
        for name in ("DeploymentStarted", "DeploymentSucceeded", "DeploymentFailed", "DeploymentStopped")
    },
    "DeploymentRolledBack": lambda body: [
        ("deployments", body[name]) for name in ("deployment_id", "to_deployment_id")
    ],
}
"""What each type of event may change; one that is not here may change anything."""
