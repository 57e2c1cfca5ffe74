"""What scenarios share: names that nobody else uses, and how a refusal looks to a client."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

MAJOR = int(mlflow.__version__.partition(".")[0])


class NotWithThisClient(Exception):
    """The client, or what is installed beside it, cannot do what the scenario asks."""


def needs_client(major: int) -> None:
    """End the scenario when the client is older than MLflow ``major``."""
    if major > MAJOR:
        raise NotWithThisClient(f"needs a client of MLflow {major}; this is {mlflow.__version__}")


def needs(*libraries: str) -> None:
    """End the scenario when one of the libraries is not installed."""
    for library in libraries:
        try:
            __import__(library)
        except ImportError as error:
            raise NotWithThisClient(f"{library} cannot be imported here ({error})") from error


def unique(name: str) -> str:
    """Return a name that nobody else uses."""
    return f"{name}-{uuid.uuid4().hex[:10]}"


def server() -> str:
    """Return the address of the server under test."""
    return os.environ["MLFLOW_TRACKING_URI"]


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """Expect that the server refuses, with this error code and with these words in the message."""
    try:
        yield
    except MlflowException as error:
        assert error.error_code == code, f"{error.error_code}: {error}"
        assert all(word in str(error) for word in words), str(error)
    else:
        raise AssertionError(f"was not refused; {code} was expected")
