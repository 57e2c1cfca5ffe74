"""Where an exception that nobody foresaw becomes a poison event: a bug in a fold must not stop everyone's events."""

import logging
import traceback

from runtide_consumers.projection import Batch, Projection
from runtide_schemas.errors import FoldFailed, RuntideError

log = logging.getLogger(__name__)


async def apply_batch(projection: Projection, batch: Batch) -> None:
    """Apply a batch.

    Raises:
        PoisonEvent: an event of it can never be applied, or (FoldFailed) applying raised what is no error of ours, nor of
            the machine's.
        RuntideError, OSError, MemoryError: as the projection says; no event is to blame.
    """
    try:
        await projection.apply(batch)
    except (RuntideError, OSError, MemoryError):
        raise
    except Exception as error:
        if len(batch.events) <= 1:  # of more, the one that is to blame is still to be found
            log.exception("%s: an event could not be folded", projection.name)
        raise FoldFailed(last_line(error)) from error


def last_line(error: BaseException) -> str:
    """Return the last line of an exception's traceback: its class and what it says."""
    return traceback.format_exception_only(error)[-1].strip()
