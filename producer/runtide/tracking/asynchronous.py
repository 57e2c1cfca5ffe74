"""A run, for asynchronous code: the same core, and what would block an event loop is a coroutine."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtide.artifacts.models import LoggedModel
from runtide.artifacts.store import StoredFile
from runtide.tracking import files, registry
from runtide.tracking.configuration import current
from runtide.tracking.leftovers import say_end
from runtide.tracking.plan import plan_run
from runtide.tracking.process import status_of
from runtide.tracking.registry import Deployment, ModelVersion
from runtide.tracking.run_log import EndStatus, RunLog


class AsyncRun(RunLog):
    """A run for asyncio: ``async with runtide.AsyncRun("name") as run``.

    ``log_param(s)``, ``log_metric(s)``, ``set_tag(s)``, ``set_note``, ``delete_tag`` and ``log_input`` (without ``data``)
    return at once and are plain methods; whatever waits for a store or the broker is a coroutine. It does not become the active run.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        experiment: str | None = None,
        experiment_id: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, object] | None = None,
        parent_run_id: str = "",
        shared: bool | None = None,
        capture: Sequence[str] | None = None,
        auto_step: bool = False,
    ) -> None:
        """Start a run; the arguments are those of ``runtide.start_run``."""
        plan = plan_run(
            current(),
            name=name,
            experiment=experiment,
            experiment_id=experiment_id,
            run_id=run_id,
            parent_run_id=parent_run_id,
            tags=tags,
            shared=shared,
            capture=capture,
            auto_step=auto_step,
        )
        super().__init__(plan)

    async def __aenter__(self) -> Self:
        """Return the run."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run; an exception goes on. Being cancelled ends it as KILLED."""
        if isinstance(error, asyncio.CancelledError):
            await self.end("KILLED", "cancelled")
        else:
            await self.end(*status_of(error))

    async def log_artifact(
        self, path: str | Path, artifact_path: str | None = None, *, resume: bool = False
    ) -> StoredFile:
        """Like ``Run.log_artifact``."""
        return await asyncio.to_thread(files.log_artifact, self, path, artifact_path, resume)

    async def log_artifacts(
        self, directory: str | Path, artifact_path: str | None = None, *, resume: bool = False
    ) -> list[StoredFile]:
        """Like ``Run.log_artifacts``."""
        return await asyncio.to_thread(files.log_artifacts, self, directory, artifact_path, resume)

    async def log_image(
        self,
        image: Any,
        artifact_file: str | None = None,
        *,
        key: str | None = None,
        step: int | None = None,
        timestamp: int | None = None,
    ) -> StoredFile:
        """Like ``Run.log_image``."""
        return await asyncio.to_thread(files.log_image, self, image, artifact_file, key, step, timestamp)

    async def log_table(self, data: Any, artifact_file: str) -> StoredFile:
        """Like ``Run.log_table``."""
        return await asyncio.to_thread(files.log_table, self, data, artifact_file)

    async def log_text(self, text: str, artifact_file: str) -> StoredFile:
        """Like ``Run.log_text``."""
        return await asyncio.to_thread(files.log_text, self, text, artifact_file)

    async def log_dict(self, value: Any, artifact_file: str) -> StoredFile:
        """Like ``Run.log_dict``."""
        return await asyncio.to_thread(files.log_dict, self, value, artifact_file)

    async def log_figure(self, figure: Any, artifact_file: str, **options: Any) -> StoredFile:
        """Like ``Run.log_figure``."""
        return await asyncio.to_thread(files.log_figure, self, figure, artifact_file, options)

    async def log_code(self) -> None:
        """Like ``Run.log_code``."""
        await asyncio.to_thread(files.log_code, self)

    async def log_environment(self) -> None:
        """Like ``Run.log_environment``."""
        await asyncio.to_thread(files.log_environment, self)

    async def log_model(self, model: Any, name: str, **options: Any) -> LoggedModel:
        """Like ``Run.log_model``."""
        return await asyncio.to_thread(files.log_model, self, model, name, options)

    async def register_model(
        self,
        name: str,
        model: LoggedModel | str,
        *,
        aliases: Sequence[str] = (),
        tags: Mapping[str, object] | None = None,
        description: str = "",
        wait: float = 30.0,
    ) -> ModelVersion:
        """Like ``runtide.register_model``."""
        return await asyncio.to_thread(
            registry.register_model, self.writer, name, model, aliases, tags, description, wait
        )

    async def set_alias(
        self, name: str, alias: str, version: int, *, expected_version: int | None = None, wait: float = 30.0
    ) -> None:
        """Like ``runtide.set_alias``."""
        await asyncio.to_thread(registry.set_alias, self.writer, name, alias, version, expected_version, wait)

    async def deploy(
        self,
        endpoint: str,
        model: str,
        *,
        follow: str | int = "latest",
        target: str = "local",
        config: Mapping[str, Any] | None = None,
        wait: float = 30.0,
    ) -> Deployment:
        """Like ``runtide.deploy``."""
        return await asyncio.to_thread(
            registry.deploy, self.writer, endpoint, model, follow, target, config or {}, wait
        )

    async def flush(self, durable: bool = False, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as Run.flush
        """Like ``Run.flush``."""
        seconds = self.exit_deadline if timeout is None else timeout
        return await asyncio.to_thread(self.writer.flush, durable, seconds)

    async def end(self, status: EndStatus = "FINISHED", reason: str = "", timeout: float | None = None) -> None:  # noqa: ASYNC109 - as Run.end
        """Like ``Run.end``."""
        leftover = await asyncio.to_thread(self.close, status, reason, timeout)
        say_end(self, leftover)
