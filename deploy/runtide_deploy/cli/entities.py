"""Entities as people name them: a run by the beginning of its id, others as ``model/NAME``, ``experiment/NAME``, ``endpoint/NAME``."""

from dataclasses import dataclass
from urllib.parse import quote

from runtide_deploy.cli import gateway as api
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.limits import check_run_id

ENTITY_HELP = "A run's id or the beginning of one, or experiment/NAME, model/NAME, endpoint/NAME."
_ID_LENGTH = 32
_KINDS = {"run": "runs", "experiment": "experiments", "model": "models", "endpoint": "endpoints"}


@dataclass(frozen=True, slots=True)
class Entity:
    """What is asked about; ``name`` is a run's or experiment's id, else its name."""

    kind: str
    name: str

    @property
    def path(self) -> str:
        """Where the gateway has it."""
        return f"/{_KINDS[self.kind]}/{quote(self.name, safe='')}"


def resolve_entity(written: str, gateway: str, at: str = "") -> Entity:
    """Return the entity that is meant; an experiment's name is the one it had at the moment ``at``.

    Raises:
        NotFound: there is none.
        InvalidRequest: several runs' ids begin so, or the kind is none.
    """
    kind, slash, name = written.partition("/")
    if not slash:
        return Entity("run", resolve_run(written, gateway))
    kind = kind.removesuffix("s")
    if kind not in _KINDS or not name:
        raise InvalidRequest(f"{written[:100]!r} names nothing. Write {ENTITY_HELP[0].lower()}{ENTITY_HELP[1:]}")
    if kind == "run":
        return Entity("run", resolve_run(name, gateway))
    if kind == "experiment" and not name.isdecimal():
        found = api.get(gateway, "/experiments", {"name": name, "at": at})["experiments"]
        return Entity(kind, str(found[0]["experiment_id"]))
    return Entity(kind, name)


def resolve_run(run: str, gateway: str) -> str:
    """Return the id of the one run whose id begins with ``run``.

    Raises:
        NotFound: there is none.
        InvalidRequest: there are several, or it is empty or no id.
    """
    if not run:
        raise InvalidRequest("The run's id is empty; `runtide runs` lists the runs")
    if len(run) == _ID_LENGTH:
        return check_run_id(run)
    found = api.get(gateway, "/runs", {"id_prefix": run, "page_size": 2, "lifecycle": "all"})["runs"]
    if not found:
        found = api.get(gateway, "/runs", {"id_prefix": run, "page_size": 2, "lifecycle": "purged"})["runs"]
    if not found:
        raise NotFound(
            f"No run's id begins with {run!r}. `runtide runs` lists them. "
            "Other things are named by their kind: model/NAME, experiment/NAME, endpoint/NAME."
        )
    if len(found) > 1:
        raise InvalidRequest(f"Several runs' ids begin with {run!r}; write more of it.")
    return str(found[0]["info"]["run_id"])
