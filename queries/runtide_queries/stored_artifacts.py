"""What the log says of stored files: a run's directories, and where models lie."""

from dataclasses import dataclass

from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound


@dataclass(frozen=True, slots=True)
class Listed:
    """What a directory holds: ``size`` in bytes, None of a directory."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a logged model lies.

    Attributes:
        run_id: the run that its events belong to.
        uri: of its directory.
        artifact_path: of it among the run's artifacts; "" when it is not among them.
    """

    run_id: str
    uri: str
    artifact_path: str


async def list_directory(postgres: Postgres, run_id: str, path: str, *, after: str, count: int) -> list[Listed]:
    """Return up to ``count`` names of a run's directory ("" is its root) after a name, in their order."""
    prefix = f"{path}/" if path else ""
    statement = load("artifacts")["list_directory"]
    return [
        Listed(**row) for row in await postgres.rows(statement, run_id=run_id, prefix=prefix, after=after, count=count)
    ]


async def get_model_place(postgres: Postgres, model_id: str) -> ModelPlace:
    """Return where a logged model lies.

    Raises:
        NotFound: there is none of that id.
    """
    row = await postgres.row(load("artifacts")["get_model_place"], model_id=model_id)
    if row is None:
        raise NotFound(f"Logged model with ID '{model_id[:300]}' not found.")
    return ModelPlace(**row)


async def get_version_source(postgres: Postgres, name: str, version: int) -> str:
    """Return the URI that a model's version was made from.

    Raises:
        NotFound: there is no such version.
    """
    row = await postgres.row(load("artifacts")["get_version_source"], name=name, version=version)
    if row is None:
        raise NotFound(f"Model Version (name={name[:300]}, version={version}) not found")
    return str(row["source"] or "")
