"""Facts about the files that this gateway stores for clients who state none themselves: whose file it is, size and checksum.

A file belongs to a run when it lies at or below the place that the run's own facts name, or below that of one of its logged
models. Whatever else is stored is nobody's, and nothing is said of it. There is no fact about a file that is deleted: a fact
says what was stored, with which checksum, and that stays true; what is there now is what the store lists.
"""

import mimetypes
import re
from collections import OrderedDict
from urllib.parse import quote

from fastapi import Request

from runtide.gateway.files import STATED_HEADER
from runtide_queries.artifacts import ArtifactStorage, Stored
from runtide_queries.commands import Commands, Freshness, RecentRuns
from runtide_queries.postgres import Postgres
from runtide_queries.stored_artifacts import ModelPlace, get_model_place
from runtide_schemas.errors import NotFound
from runtide_schemas.events.runs import ArtifactLogged
from runtide_schemas.identity import now_ms

_RUN = re.compile(r"(?:\A|(?<=/))([0-9a-f]{32})/artifacts/")
_MODEL = re.compile(r"(?:\A|(?<=/))models/(m-[0-9a-f]{32})/artifacts/")
_MOST_MODELS = 10_000


class ArtifactFacts:
    """States them. Belongs to one event loop."""

    def __init__(
        self, artifacts: ArtifactStorage, postgres: Postgres, recent: RecentRuns, fresh: Freshness, commands: Commands
    ) -> None:
        self._artifacts = artifacts
        self._postgres = postgres
        self._recent = recent
        self._fresh = fresh
        self._commands = commands
        self._models: OrderedDict[str, ModelPlace] = OrderedDict()

    async def stored(self, path: str, stored: Stored, *, actor: str = "") -> None:
        """State that a file is there, if it is a run's; the fact is in the log when this returns.

        Args:
            path: below the gateway's root.
            stored: what it is.
            actor: who stored it.

        Raises:
            TransientError: the log or the state store is away; the file is stored, and storing it again states it.
        """
        if (found := await self._owner(path)) is None:
            return
        run_id, name = found
        fact = ArtifactLogged(
            run_id=run_id,
            path=name,
            uri=f"mlflow-artifacts:/{quote(path)}",
            size=stored.size,
            sha256=stored.sha256,
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            at=now_ms(),
        )
        await self._commands.state(fact, actor=actor)

    async def model_place(self, model_id: str) -> ModelPlace:
        """Return where a logged model lies, which never changes.

        Raises:
            NotFound: the log knows none of that id.
            TransientError: the log or the state store is away.
        """
        if (known := self._models.get(model_id)) is not None:
            return known
        try:
            model = await get_model_place(self._postgres, model_id)
        except NotFound:
            await self._fresh.everything()
            model = await get_model_place(self._postgres, model_id)
        self._models[model_id] = model
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return model

    async def _owner(self, path: str) -> tuple[str, str] | None:
        """Return a file's run and what its path is among the run's artifacts."""
        for match in _MODEL.finditer(path):
            if (run_id := await self._run_of_model(match[1], path[: match.end() - 1])) is not None:
                return run_id, f"models/{match[1]}/{path[match.end() :]}"
        for match in _RUN.finditer(path):
            if await self._is_root(match[1], path[: match.end() - 1]):
                return match[1], path[match.end() :]
        return None

    async def _is_root(self, run_id: str, place: str) -> bool:
        try:
            state = await self._recent.state(run_id)
        except NotFound:
            return False
        return state.lifecycle_stage != "purged" and self._artifacts.kept_at(state.artifact_uri) == place

    async def _run_of_model(self, model_id: str, place: str) -> str | None:
        """Return the run of a logged model that lies at a place; None of one outside of any run."""
        try:
            model = await self.model_place(model_id)
        except NotFound:
            return None
        of_run = model.run_id != model_id.removeprefix("m-")
        return model.run_id if of_run and self._artifacts.kept_at(model.uri) == place else None


def stated_by_client(request: Request) -> bool:
    """Say whether the client of a request states itself what it stores: the SDK and MLflow's plugin do."""
    return request.headers.get(STATED_HEADER, "").lower() == "client"
