"""Module functions about models and endpoints: ``runtide.register_model(...)`` and the like. They need no active run."""

from collections.abc import Mapping, Sequence
from typing import Any

from runtide.artifacts.models import LoggedModel
from runtide.tracking import registry
from runtide.tracking.active import innermost
from runtide.tracking.configuration import current
from runtide.tracking.registry import Deployment, ModelVersion


def register_model(
    name: str,
    model: LoggedModel | str,
    *,
    aliases: Sequence[str] = (),
    tags: Mapping[str, object] | None = None,
    description: str = "",
    wait: float = 30.0,
) -> ModelVersion:
    """Register the next version of a model and wait for its number. Needs no active run.

    Args:
        name: registered model; made when there is none of that name.
        model: what ``log_model`` returned, or the URI of a model's directory.
        aliases: to point at the new version.
        tags: of the version.
        description: of the version.
        wait: seconds to wait for the registrar.

    Raises:
        InvalidRequest: the registrar refused, or a name is not allowed, or there is no model at the URI.
        AnswerPending: no answer in time. The request is kept and will be decided; do not make it again.
    """
    if (run := innermost()) is not None:
        return run.register_model(name, model, aliases=aliases, tags=tags, description=description, wait=wait)
    with registry.requests_writer(current()) as writer:
        return registry.register_model(writer, name, model, aliases, tags, description, wait)


def set_alias(name: str, alias: str, version: int, *, expected_version: int | None = None, wait: float = 30.0) -> None:
    """Point an alias of a registered model at a version. Needs no active run.

    Args:
        name: registered model.
        alias: letters, digits, ``_`` and ``-``.
        version: its number.
        expected_version: refuse unless the alias points there now; 0: unless it is not set; None: in any case.
        wait: seconds to wait for the registrar.

    Raises:
        InvalidRequest: the registrar refused, or a name is not allowed.
        AnswerPending: no answer in time; the request is kept.
    """
    if (run := innermost()) is not None:
        run.set_alias(name, alias, version, expected_version=expected_version, wait=wait)
        return
    with registry.requests_writer(current()) as writer:
        registry.set_alias(writer, name, alias, version, expected_version, wait)


def deploy(
    endpoint: str,
    model: str,
    *,
    follow: str | int = "latest",
    target: str = "local",
    config: Mapping[str, Any] | None = None,
    wait: float = 30.0,
) -> Deployment:
    """Ask that an endpoint serve a registered model from now on. Needs no active run.

    Args:
        endpoint: lowercase letters, digits and hyphens.
        model: registered model.
        follow: ``"latest"``, an alias, or a version number.
        target: deployment target.
        config: settings of the target.
        wait: seconds to wait for the registrar; not for the endpoint to serve.

    Raises:
        InvalidRequest: the registrar refused, or a name is not allowed.
        AnswerPending: no answer in time; the request is kept.
    """
    options: dict[str, Any] = {"follow": follow, "target": target, "config": config, "wait": wait}
    if (run := innermost()) is not None:
        return run.deploy(endpoint, model, **options)
    with registry.requests_writer(current()) as writer:
        return registry.deploy(writer, endpoint, model, follow, target, config or {}, wait)
