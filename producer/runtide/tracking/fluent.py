"""Module functions on the active run: ``runtide.log_metric(...)`` and the like.

With no run active, logging starts one, as MLflow does; it ends with the process. While the process ends none is started:
nobody would end it, nor say what it leaves.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from runtide.artifacts.models import LoggedModel
from runtide.artifacts.store import StoredFile
from runtide.tracking.active import enter, innermost
from runtide.tracking.configuration import Configuration, configure, current
from runtide.tracking.plan import plan_attachment, plan_run
from runtide.tracking.process import handle_sigterm, is_ending
from runtide.tracking.run import Run
from runtide.tracking.run_log import EndStatus
from runtide_schemas.errors import InvalidRequest


def init(
    *,
    experiment: str | None = None,
    broker: str | None = None,
    uri: str | None = None,
    artifacts: str | None = None,
    spool: str | Path | None = None,
    data: str | Path | None = None,
) -> Configuration:
    """Set where this process's next runs go. Optional: without it, the environment and ``runtide up`` decide.

    Args:
        experiment: experiment of runs that name none.
        broker: bootstrap address, host:port; "" means offline. Else ``RUNTIDE_BROKER``, else the stack of ``data``.
        uri: in place of a broker, ``http(s)://host:port`` of a gateway to send events through. Else ``RUNTIDE_URI``.
        artifacts: URI of the artifact root. Else ``RUNTIDE_ARTIFACTS``, else the stack's (with a gateway's ``uri``: what
            that gateway keeps), else below the spool.
        spool: directory of the spools. Else ``RUNTIDE_SPOOL``, else ``<data>/spool``.
        data: data directory of a stack on this machine. Else ``RUNTIDE_DATA``, else ``~/.local/share/runtide``.

    Raises:
        InvalidRequest: the experiment's name or the URI is not allowed, or the stack's file is damaged.
    """
    return configure(experiment=experiment, broker=broker, uri=uri, artifacts=artifacts, spool=spool, data=data)


def start_run(
    name: str | None = None,
    *,
    experiment: str | None = None,
    experiment_id: str | None = None,
    run_id: str | None = None,
    tags: Mapping[str, object] | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    shared: bool | None = None,
    capture: Sequence[str] | None = None,
    auto_step: bool = False,
) -> Run:
    """Start a run and make it the active one. Needs no broker: what is logged waits in the spool.

    Args:
        name: display name; a random one when None.
        experiment: its name; made when there is none of that name. Else that of ``init``, else Default.
        experiment_id: its id, instead of a name.
        run_id: take up this run, which exists, and go on with it.
        tags: tags of the run.
        nested: make it a child of the active run; with none active it has no parent (as in MLflow).
        parent_run_id: make it a child of this run, e.g. of one in another process.
        shared: all ranks of this job write to one run: that of ``RUNTIDE_RUN_ID``, else one whose id every rank
            derives alike from the launcher's job (a SLURM step, or torchrun with a UUID as its run id). Rank 0 starts
            and ends it. False: a run of this process alone, whatever the environment says. None: the variable and
            ``RUNTIDE_SHARE_RUN`` decide.
        capture: what the run captures by itself, in the background: any of ``code``, ``environment`` (see ``Run.log_code``,
            ``Run.log_environment``), ``system`` (metrics ``system/...``, by one rank per host) and ``console`` (what is
            printed, below ``console/``). None: what ``RUNTIDE_CAPTURE`` names.
        auto_step: number metric points that are given no step: each name from 0, in each process. Else their step is 0.

    Raises:
        InvalidRequest: a run is active already and ``nested`` is not set, a name, id or tag is not allowed, or the run is
            to be shared and nothing names it.
        FatalError: the spool cannot be made.
    """
    active = innermost()
    if active is not None and not nested:
        raise InvalidRequest(
            f"run {active.run_id} is active already: end it with runtide.end_run(), or start a child of it with "
            "start_run(nested=True)"
        )
    plan = plan_run(
        current(),
        name=name,
        experiment=experiment,
        experiment_id=experiment_id,
        run_id=run_id,
        parent_run_id=parent_run_id or (active.run_id if active is not None else ""),
        nested=active is not None,
        tags=tags,
        shared=shared,
        capture=capture,
        auto_step=auto_step,
    )
    if plan.configuration.settings.handle_sigterm:
        handle_sigterm()
    run = Run(plan)
    enter(run)
    return run


def attach(run_id: str | None = None) -> Run:
    """Join a run that another process starts and ends, as one more writer. It does not become the active run.

    Args:
        run_id: the run; that of ``RUNTIDE_RUN_ID`` when None.

    Raises:
        InvalidRequest: the id is not allowed, or there is none.
    """
    return Run(plan_attachment(current(), run_id))


def active_run() -> Run | None:
    """Return the active run: the innermost one that this process started and did not end."""
    return innermost()


def end_run(status: EndStatus = "FINISHED", reason: str = "") -> None:
    """End the active run, if there is one; see ``Run.end``."""
    if (run := innermost()) is not None:
        run.end(status, reason)


def log_metric(key: str, value: SupportsFloat, step: int | None = None, timestamp: int | None = None) -> None:
    """Log one point of a metric to the active run; see ``Run.log_metric``."""
    (innermost() or _run()).log_metric(key, value, step, timestamp)


def log_metrics(
    metrics: Mapping[str, SupportsFloat],
    step: int | None = None,
    timestamp: int | None = None,
    *,
    epoch: float | None = None,
) -> None:
    """Log one point of each of several metrics to the active run; see ``Run.log_metrics``."""
    (innermost() or _run()).log_metrics(metrics, step, timestamp, epoch=epoch)


def log_param(key: str, value: object) -> None:
    """Log a param to the active run; see ``Run.log_params``."""
    _run().log_param(key, value)


def log_params(params: Mapping[str, object]) -> None:
    """Log params to the active run; see ``Run.log_params``."""
    _run().log_params(params)


def set_tag(key: str, value: object) -> None:
    """Set a tag of the active run."""
    _run().set_tag(key, value)


def set_tags(tags: Mapping[str, object]) -> None:
    """Set tags of the active run."""
    _run().set_tags(tags)


def delete_tag(key: str) -> None:
    """Delete a tag of the active run."""
    _run().delete_tag(key)


def set_note(text: str) -> None:
    """Set the note of the active run, in Markdown; see ``Run.set_note``."""
    _run().set_note(text)


def log_input(
    name: str,
    digest: str = "",
    *,
    data: Any = None,
    context: str = "",
    source: str = "",
    source_type: str = "",
    schema: str = "",
    profile: str = "",
    tags: Mapping[str, object] | None = None,
) -> None:
    """Log a dataset that the active run uses; see ``Run.log_input``."""
    _run().log_input(
        name,
        digest,
        data=data,
        context=context,
        source=source,
        source_type=source_type,
        schema=schema,
        profile=profile,
        tags=tags,
    )


def log_artifact(path: str | Path, artifact_path: str | None = None, *, resume: bool = False) -> StoredFile:
    """Store a local file with the active run; see ``Run.log_artifact``."""
    return _run().log_artifact(path, artifact_path, resume=resume)


def log_artifacts(directory: str | Path, artifact_path: str | None = None, *, resume: bool = False) -> list[StoredFile]:
    """Store a local directory's files with the active run; see ``Run.log_artifacts``."""
    return _run().log_artifacts(directory, artifact_path, resume=resume)


def log_text(text: str, artifact_file: str) -> StoredFile:
    """Store text as an artifact of the active run."""
    return _run().log_text(text, artifact_file)


def log_dict(value: Any, artifact_file: str) -> StoredFile:
    """Store a JSON-like value as an artifact of the active run; see ``Run.log_dict``."""
    return _run().log_dict(value, artifact_file)


def log_figure(figure: Any, artifact_file: str, **options: Any) -> StoredFile:
    """Store a figure as an artifact of the active run; see ``Run.log_figure``."""
    return _run().log_figure(figure, artifact_file, **options)


def log_image(
    image: Any,
    artifact_file: str | None = None,
    *,
    key: str | None = None,
    step: int | None = None,
    timestamp: int | None = None,
) -> StoredFile:
    """Store an image with the active run, under a name or as one of a series; see ``Run.log_image``."""
    return _run().log_image(image, artifact_file, key=key, step=step, timestamp=timestamp)


def log_table(data: Any, artifact_file: str) -> StoredFile:
    """Store a table, or append to it, with the active run; see ``Run.log_table``."""
    return _run().log_table(data, artifact_file)


def log_code() -> None:
    """Keep what the code of the active run was; see ``Run.log_code``."""
    _run().log_code()


def log_environment() -> None:
    """Keep machine and package versions of the active run; see ``Run.log_environment``."""
    _run().log_environment()


def log_model(model: Any, name: str, **options: Any) -> LoggedModel:
    """Save a model and store it with the active run; see ``Run.log_model``."""
    return _run().log_model(model, name, **options)


def flush(durable: bool = False, timeout: float | None = None) -> bool:
    """Wait until the broker has everything that the active run logged; see ``Run.flush``. True without a run."""
    run = innermost()
    return run is None or run.flush(durable, timeout)


def _run() -> Run:
    if (run := innermost()) is not None:
        return run
    if is_ending():
        raise InvalidRequest(
            "this process is ending, and its run has ended with it: join the threads that log before the main program "
            "ends, or start and end a run of their own there (runtide.start_run)"
        )
    return start_run()
