"""Errors, named for what whoever meets them must do.

Every error of ours has one of four kinds. Foreign exceptions (aiokafka, asyncpg, DuckDB, fastavro) are translated to
one of them at a single seam, with the cause kept.
"""

from enum import Enum


class ErrorKind(Enum):
    """What to do about an error."""

    RETRY = "retry"
    """Wait and try again: the store or the network is away, nothing is wrong with the data."""
    QUARANTINE = "quarantine"
    """Park the event with its reason: it can never be applied as it is."""
    FIX_REQUEST = "fix_request"
    """The caller asked for something that cannot be; the message says what to change."""
    STOP = "stop"
    """Do not go on: doing so would lose or corrupt something. An operator has to look."""


class RuntideError(Exception):
    """Base of all errors of Runtide; ``kind`` says what to do."""

    kind: ErrorKind = ErrorKind.STOP


class TransientError(RuntideError):
    """Something is away for the moment; waiting and trying again is right."""

    kind = ErrorKind.RETRY


class PoisonEvent(RuntideError):
    """An event can never be applied as it is."""

    kind = ErrorKind.QUARANTINE
    code = "invalid"


class UndecodableEvent(PoisonEvent):
    """The bytes are no event of ours, or are damaged."""

    code = "undecodable"


class UnknownSchema(PoisonEvent):
    """The event carries a schema fingerprint or type that this version does not know."""

    code = "unknown_schema"


class FoldFailed(PoisonEvent):
    """Folding an event raised what nobody foresaw: a bug of this version, or an event that it should have refused."""

    code = "failed"


class InvalidRequest(RuntideError):
    """The caller asked for something that cannot be. ``code`` is MLflow's error code."""

    kind = ErrorKind.FIX_REQUEST

    def __init__(self, message: str, code: str = "INVALID_PARAMETER_VALUE") -> None:
        super().__init__(message)
        self.code = code


class NotFound(InvalidRequest):
    """The named thing does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "RESOURCE_DOES_NOT_EXIST")


class FatalError(RuntideError):
    """Going on would lose or corrupt something."""


class Fenced(FatalError):
    """Another process has taken over this projection; this one must stop writing."""


class LogTruncated(FatalError):
    """The log no longer holds the offset that a projection has to read next."""
