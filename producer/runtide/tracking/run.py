"""A run, for synchronous code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtide.artifacts.models import LoggedModel
from runtide.artifacts.store import StoredFile
from runtide.tracking import files, registry
from runtide.tracking.active import leave
from runtide.tracking.leftovers import say_end
from runtide.tracking.process import status_of
from runtide.tracking.registry import Deployment, ModelVersion
from runtide.tracking.run_log import EndStatus, RunLog


class Run(RunLog):
    """A run that this process writes to; made by ``runtide.start_run`` and ``runtide.attach``.

    As a context manager it ends the run: FINISHED, FAILED with the reason after an exception, KILLED after Ctrl-C.
    """

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run; an exception goes on."""
        self.end(*status_of(error))

    def log_artifact(self, path: str | Path, artifact_path: str | None = None, *, resume: bool = False) -> StoredFile:
        """Store a local file with the run.

        Args:
            path: of the file; it keeps its name.
            artifact_path: directory among the run's artifacts; their root when None.
            resume: after an upload that failed, do not send again what this process has stored with the same content.

        Raises:
            InvalidRequest: no such file, or a path that is not allowed.
            TransientError: the store is away.
        """
        return files.log_artifact(self, path, artifact_path, resume)

    def log_artifacts(
        self, directory: str | Path, artifact_path: str | None = None, *, resume: bool = False
    ) -> list[StoredFile]:
        """Store every file below a local directory with the run; see ``log_artifact``."""
        return files.log_artifacts(self, directory, artifact_path, resume)

    def log_text(self, text: str, artifact_file: str) -> StoredFile:
        """Store text as an artifact, UTF-8."""
        return files.log_text(self, text, artifact_file)

    def log_dict(self, value: Any, artifact_file: str) -> StoredFile:
        """Store a JSON-like value as an artifact: YAML when the name ends in .yaml or .yml, else JSON."""
        return files.log_dict(self, value, artifact_file)

    def log_figure(self, figure: Any, artifact_file: str, **options: Any) -> StoredFile:
        """Store a Matplotlib figure (``options`` go to ``savefig``), or a Plotly figure as .html."""
        return files.log_figure(self, figure, artifact_file, options)

    def log_image(
        self,
        image: Any,
        artifact_file: str | None = None,
        *,
        key: str | None = None,
        step: int | None = None,
        timestamp: int | None = None,
    ) -> StoredFile:
        """Store an image, under a name or as one of a series.

        Args:
            image: an array, height x width or with 1, 3 or 4 channels behind, of whole numbers in 0..255, floats in 0..1
                or bools (tensors of that layout too); or a Pillow image.
            artifact_file: its name; the suffix is the format, and those other than .png need Pillow.
            key: instead: the name of the series; the file lies below ``images/`` under MLflow's kind of name.
            step: in the series, 0 when None.
            timestamp: Unix time in milliseconds; now when None.

        Raises:
            InvalidRequest: it is no such image.
            TransientError: the store is away.
        """
        return files.log_image(self, image, artifact_file, key, step, timestamp)

    def log_table(self, data: Any, artifact_file: str) -> StoredFile:
        """Store a table; rows go below those of the table that lies there already.

        One process at a time may append to a file: give each rank its own.

        Args:
            data: a pandas DataFrame, or a mapping of column names to columns (or to single values: one row).
            artifact_file: ends in .json (pandas' split form, as MLflow has it; NaN becomes null) or .parquet (needs
                pyarrow).

        Raises:
            InvalidRequest: it is no table, or what lies there is none.
            TransientError: the store is away.
        """
        return files.log_table(self, data, artifact_file)

    def log_code(self) -> None:
        """Keep what the code was: commit, branch, remote (without credentials) and whether it was dirty as tags;
        entry point, command line (what looks like a secret is masked) and names of untracked files as
        ``code/command.json``; what differs from the commit, up to 1 MiB, as ``code/diff.patch``.
        """
        files.log_code(self)

    def log_environment(self) -> None:
        """Keep Python, machine, processors, memory and package versions, below ``environment/``."""
        files.log_environment(self)

    def log_model(self, model: Any, name: str, **options: Any) -> LoggedModel:
        """Save a model in its flavor and store it with the run, under ``models/<name>``.

        Args:
            model: anything that an installed flavor can save.
            name: of the model in this run.
            options: further arguments of ``runtide.models.save_model``, e.g. ``signature``, ``input_example``.
        """
        return files.log_model(self, model, name, options)

    def register_model(
        self,
        name: str,
        model: LoggedModel | str,
        *,
        aliases: Sequence[str] = (),
        tags: Mapping[str, object] | None = None,
        description: str = "",
        wait: float = 30.0,
    ) -> ModelVersion:
        """Register a model's next version; see ``runtide.register_model``."""
        return registry.register_model(self.writer, name, model, aliases, tags, description, wait)

    def set_alias(
        self, name: str, alias: str, version: int, *, expected_version: int | None = None, wait: float = 30.0
    ) -> None:
        """Point an alias at a version; see ``runtide.set_alias``."""
        registry.set_alias(self.writer, name, alias, version, expected_version, wait)

    def deploy(
        self,
        endpoint: str,
        model: str,
        *,
        follow: str | int = "latest",
        target: str = "local",
        config: Mapping[str, Any] | None = None,
        wait: float = 30.0,
    ) -> Deployment:
        """Ask that an endpoint serve a model; see ``runtide.deploy``."""
        return registry.deploy(self.writer, endpoint, model, follow, target, config or {}, wait)

    def flush(self, durable: bool = False, timeout: float | None = None) -> bool:
        """Wait until the broker has acknowledged everything logged so far.

        Args:
            durable: first make sure that it is on the disk itself (fsync), so that losing power keeps it, whatever this
                returns.
            timeout: seconds to wait for the broker; the setting ``exit_deadline`` when None, 0 does not wait.

        Returns:
            True when the broker has everything; False when some is only in the spool.

        Raises:
            OSError: with ``durable``: the disk failed, now or before, so losing power may lose what was logged since the
                last good durable flush. It is still sent.
        """
        return self.writer.flush(durable, self.exit_deadline if timeout is None else timeout)

    def end(self, status: EndStatus = "FINISHED", reason: str = "", timeout: float | None = None) -> None:
        """End the run and wait for the broker; what is not delivered in time stays in the spool and is said.

        A process that only joined the run closes its writer, and leaves the run's status alone. Ending twice does
        nothing.

        Args:
            status: FINISHED, FAILED or KILLED.
            reason: why, for FAILED and KILLED.
            timeout: seconds to wait; the setting ``exit_deadline`` (10) when None.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the waiting; the run has ended all the same, and what is left was said.
        """
        leave(self)
        leftover = self.close(status, reason, timeout)
        say_end(self, leftover)
        if leftover is not None and leftover.interrupted:
            raise KeyboardInterrupt
