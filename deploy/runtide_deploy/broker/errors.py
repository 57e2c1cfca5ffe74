"""The broker's errors, named for what whoever catches them must do."""

from kio.schema.errors import ErrorCode


class BrokerError(Exception):
    """Base of everything this package raises on purpose."""


class Refused(BrokerError):
    """A request, or one partition's part of it, is answered with a Kafka error code.

    Attributes:
        code: Kafka's own code for the case.
        message: what was wrong, with what value, and what to do; sent where the API version carries text.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class MalformedRequest(BrokerError):
    """The bytes on the connection are no Kafka request we serve: close that connection."""


class Overloaded(BrokerError):
    """Too much of the same waits already: close that connection without an answer, which clients try again after."""


class CannotStart(BrokerError):
    """The broker refuses to start; the message says what the operator must change."""


class InvalidSettings(CannotStart):
    """A setting is missing, is not of its type or is out of its range; the message names each."""


class DamagedBatch(BrokerError):
    """The bytes at a position of a segment file are no valid record batch.

    Attributes:
        position: byte position in the segment file where the damage starts.
        reason: which check failed.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"no valid record batch at byte {position}: {reason}")
        self.position = position
        self.reason = reason


class DamagedLog(BrokerError):
    """Stored data is damaged before its tail: that partition must not be served until it is restored."""
