"""Errors of ours as MLflow's, with its codes: users of MLflow catch ``MlflowException``."""

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)

from runtide_schemas.errors import InvalidRequest, RuntideError, TransientError

P = ParamSpec("P")
T = TypeVar("T")


def mlflow_error(error: RuntideError) -> MlflowException:
    """Return the exception of MLflow's that says the same."""
    if isinstance(error, InvalidRequest):
        try:
            code = ErrorCode.Value(error.code)
        except ValueError:
            code = INVALID_PARAMETER_VALUE
    else:
        code = TEMPORARILY_UNAVAILABLE if isinstance(error, TransientError) else INTERNAL_ERROR
    return MlflowException(str(error), error_code=code)


def in_mlflows_terms(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function raise MLflow's exceptions in place of ours; ours is the cause."""

    @functools.wraps(function)
    def translating(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except RuntideError as error:
            raise mlflow_error(error) from error

    return translating


def not_found(message: str) -> MlflowException:
    """Return the exception for something that does not exist."""
    return MlflowException(message, error_code=RESOURCE_DOES_NOT_EXIST)


def invalid(message: str) -> MlflowException:
    """Return the exception for a request that cannot be met as it is."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def changed(run_id: str, known: Mapping[str, str], tried: Mapping[str, str]) -> str:
    """Return MLflow's words for params that have another value already."""
    if len(tried) == 1:
        ((key, value),) = tried.items()
        return (
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{known[key]}' "
            f"for run ID='{run_id}'. Attempted logging new value '{value}'."
        )
    listed = [{"key": key, "old_value": known[key], "new_value": value} for key, value in tried.items()]
    return f"Changing param values is not allowed. Params were already logged='{listed}' for run ID='{run_id}'."
