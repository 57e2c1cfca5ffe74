"""What of MLflow's stores is not here answers so, with MLflow's error code for it, instead of failing somehow."""

from collections.abc import Callable
from typing import Any, NoReturn

from mlflow.exceptions import MlflowNotImplementedException

USED_AS_THEY_ARE = frozenset(
    {
        "end_async_logging",
        "filter_active_experiment_ids",
        "flush_async_logging",
        "get_metric_history_bulk_interval",
        "get_metric_history_bulk_interval_from_steps",
        "log_batch_async",
        "log_metric_async",
        "log_param_async",
        "search_runs",
        "set_model_versions_tags",
        "set_tag_async",
        "shut_down_async_logging",
    }
)
"""Methods of MLflow's abstract tracking store that do what they say through ours."""


def refuse_the_rest(used: frozenset[str] = frozenset()) -> Callable[[type], type]:
    """Return a class decorator: every public method that a class only inherits is refused, but those in ``used``.

    That holds for what later versions of MLflow add, too.
    """

    def decorate(store: type) -> type:
        for name in dir(store):
            inherited = not any(
                name in base.__dict__ for base in store.__mro__ if base.__module__.startswith("runtide.")
            )
            if not name.startswith("_") and inherited and name not in used and callable(getattr(store, name)):
                setattr(store, name, refusal(name))
        return store

    return decorate


def refusal(name: str) -> Callable[..., NoReturn]:
    """Return a method that says it is not here."""

    def refuse(self: object, *arguments: Any, **options: Any) -> NoReturn:  # noqa: ARG001 - any method's
        raise MlflowNotImplementedException(
            f"Runtide's store for MLflow has no {name}: it keeps experiments, runs, datasets, models and the registry, and "
            "none of MLflow's traces, scorers, evaluation datasets, issues, reviews, prompts or gateway settings"
        )

    refuse.__name__ = name
    return refuse
