"""Runtide's SDK: log params, metrics, artifacts and models of training runs. Nothing is lost, nothing waits.

    import runtide

    with runtide.start_run(name="first") as run:
        run.log_params({"learning_rate": 0.1})
        for step in range(100):
            run.log_metric("loss", 1 / (step + 1), step=step)

Importing this starts no thread, opens no socket and makes no file; names are loaded when they are first used. Start
reading at ``tracking/run_log.py``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtide.artifacts.models import LoggedModel
    from runtide.artifacts.store import StoredFile
    from runtide.catalogue import AnswerPending
    from runtide.publisher.lag import Lag
    from runtide.tracking.asynchronous import AsyncRun
    from runtide.tracking.fluent import (
        active_run,
        attach,
        delete_tag,
        end_run,
        flush,
        init,
        log_artifact,
        log_artifacts,
        log_code,
        log_dict,
        log_environment,
        log_figure,
        log_image,
        log_input,
        log_metric,
        log_metrics,
        log_model,
        log_param,
        log_params,
        log_table,
        log_text,
        set_note,
        set_tag,
        set_tags,
        start_run,
    )
    from runtide.tracking.fluent_registry import deploy, register_model, set_alias
    from runtide.tracking.registry import Deployment, ModelVersion
    from runtide.tracking.run import Run
    from runtide_schemas.errors import FatalError, InvalidRequest, NotFound, RuntideError, TransientError

__all__ = [
    "AnswerPending",
    "AsyncRun",
    "Deployment",
    "FatalError",
    "InvalidRequest",
    "Lag",
    "LoggedModel",
    "ModelVersion",
    "NotFound",
    "Run",
    "RuntideError",
    "StoredFile",
    "TransientError",
    "active_run",
    "attach",
    "delete_tag",
    "deploy",
    "end_run",
    "flush",
    "init",
    "log_artifact",
    "log_artifacts",
    "log_code",
    "log_dict",
    "log_environment",
    "log_figure",
    "log_image",
    "log_input",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_params",
    "log_table",
    "log_text",
    "register_model",
    "set_alias",
    "set_note",
    "set_tag",
    "set_tags",
    "start_run",
]

_HOMES = {
    "AnswerPending": "runtide.catalogue",
    "AsyncRun": "runtide.tracking.asynchronous",
    "Deployment": "runtide.tracking.registry",
    "FatalError": "runtide_schemas.errors",
    "InvalidRequest": "runtide_schemas.errors",
    "Lag": "runtide.publisher.lag",
    "LoggedModel": "runtide.artifacts.models",
    "ModelVersion": "runtide.tracking.registry",
    "NotFound": "runtide_schemas.errors",
    "Run": "runtide.tracking.run",
    "RuntideError": "runtide_schemas.errors",
    "StoredFile": "runtide.artifacts.store",
    "TransientError": "runtide_schemas.errors",
    "deploy": "runtide.tracking.fluent_registry",
    "register_model": "runtide.tracking.fluent_registry",
    "set_alias": "runtide.tracking.fluent_registry",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'runtide' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "runtide.tracking.fluent")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
