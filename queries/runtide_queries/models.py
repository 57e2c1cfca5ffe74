"""Registered models, their versions and aliases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

_SCOPE = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """A registered model; ``aliases`` maps an alias to its version number."""

    name: str
    description: str | None
    created_at: int | None
    updated_at: int | None
    latest_version: int | None
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        location: where its files lie, when ``source`` is a ``models:/`` URI.
        aliases: those that point at it, where they were asked for.
    """

    name: str
    version: int
    source: str | None
    run_id: str | None
    model_id: str | None
    digest: str | None
    flavors: tuple[str, ...]
    description: str | None
    stage: str | None
    created_at: int | None
    updated_at: int | None
    tags: Mapping[str, str]
    run_link: str | None = ""
    location: str | None = ""
    aliases: tuple[str, ...] = ()

    @property
    def files(self) -> str:
        """Where its files lie."""
        return self.location or self.source or ""

    @classmethod
    def of(cls, row: Any, tags: Mapping[str, str] | None = None) -> Self:
        """Return the version of a record."""
        return cls(**{**row, "flavors": tuple(row["flavors"] or ()), "tags": tags or {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelDetail:
    """A registered model with its tags and versions, the newest first."""

    model: RegisteredModel
    tags: Mapping[str, str]
    versions: tuple[ModelVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelPage:
    """Registered models by name; ``next_page_token`` is empty on the last page."""

    models: tuple[RegisteredModel, ...]
    next_page_token: str


async def list_registered_models(
    postgres: Postgres, *, page_size: int = 100, page_token: str = "", prompts: bool = False
) -> RegisteredModelPage:
    """Return a page of registered models with their aliases; MLflow's prompts, which lie among them, where they are asked for."""
    check_page_size(page_size)
    after = decode_token(_SCOPE, page_token, [str])[0] if page_token else ""
    statements = load("models")
    async with postgres.snapshot() as snapshot:
        wanted: dict[str, Any] = {"after": after, "page_size": page_size + 1, "prompts": prompts}
        rows = await snapshot.rows(statements["list_registered_models"], **wanted)
        names = [row["name"] for row in rows[:page_size]]
        aliases = _by_name(await snapshot.rows(statements["list_aliases"], names=names))
    models = tuple(RegisteredModel(**row, aliases=aliases.get(row["name"], {})) for row in rows[:page_size])
    token = encode_token(_SCOPE, [names[-1]]) if len(rows) > page_size else ""
    return RegisteredModelPage(models=models, next_page_token=token)


async def get_registered_model(postgres: Postgres, name: str) -> RegisteredModelDetail:
    """Return a registered model with its versions.

    Raises:
        NotFound: there is none of that name.
    """
    statements = load("models")
    async with postgres.snapshot() as snapshot:
        row = await snapshot.row(statements["get_registered_model"], name=name)
        if row is None:
            raise NotFound(f"Registered Model with name={name} not found; list them at /api/runtide/v1/models")
        aliases = _by_name(await snapshot.rows(statements["list_aliases"], names=[name]))
        tags = await snapshot.rows(statements["get_registered_model_tags"], name=name)
        version_tags: dict[int, dict[str, str]] = {}
        for version, key, value in await snapshot.rows(statements["list_model_version_tags"], name=name):
            version_tags.setdefault(version, {})[key] = value
        versions = await snapshot.rows(statements["list_model_versions"], name=name)
    return RegisteredModelDetail(
        model=RegisteredModel(**row, aliases=aliases.get(name, {})),
        tags=dict(tags),
        versions=tuple(ModelVersion.of(found, version_tags.get(found["version"])) for found in versions),
    )


async def get_model_with_latest(postgres: Postgres, name: str) -> RegisteredModelDetail:
    """Return a registered model with the latest version of each stage that has one.

    Raises:
        NotFound: there is none of that name.
    """
    statements = load("models")
    async with postgres.snapshot() as snapshot:
        row = await snapshot.row(statements["get_registered_model"], name=name)
        if row is None:
            raise NotFound(f"Registered Model with name={name} not found")
        aliases = _by_name(await snapshot.rows(statements["list_aliases"], names=[name]))
        tags = await snapshot.rows(statements["get_registered_model_tags"], name=name)
        versions = await snapshot.rows(statements["list_latest_versions"], name=name)
    return RegisteredModelDetail(
        model=RegisteredModel(**row, aliases=aliases.get(name, {})),
        tags=dict(tags),
        versions=tuple(map(_version, versions)),
    )


async def get_model_version(postgres: Postgres, name: str, version: int) -> ModelVersion:
    """Return a version of a registered model with its tags and aliases.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    row = await postgres.row(load("models")["get_model_version"], name=name, version=version)
    if row is None:
        raise NotFound(f"Model Version (name={name}, version={version}) not found")
    return _version(row)


async def get_model_version_by_alias(postgres: Postgres, name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias points at, or None when there is no such alias."""
    row = await postgres.row(load("models")["get_aliased_version"], name=name, alias=alias)
    return None if row is None else _version(row)


async def list_versions_of_logged_model(postgres: Postgres, model_id: str) -> list[tuple[str, int]]:
    """Return name and number of the versions that were registered of a logged model, in their order."""
    rows = await postgres.rows(load("models")["list_versions_of_logged_model"], model_id=model_id)
    return [(row["name"], row["version"]) for row in rows]


def _version(row: Any) -> ModelVersion:
    told = dict(row)
    tags = dict(zip(told.pop("tag_keys") or (), told.pop("tag_values") or (), strict=True))
    flavors, aliases = tuple(told.pop("flavors") or ()), tuple(told.pop("aliases") or ())
    return ModelVersion(**told, flavors=flavors, tags=tags, aliases=aliases)


def _by_name(rows: list[Any]) -> dict[str, dict[str, int]]:
    aliases: dict[str, dict[str, int]] = {}
    for name, alias, version in rows:
        aliases.setdefault(name, {})[alias] = version
    return aliases
