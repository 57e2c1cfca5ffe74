"""The seam where asyncpg's exceptions become ours: what must the projector do?"""

import asyncpg

from runtide_schemas.errors import FatalError, PoisonEvent, RuntideError, TransientError

# SQLSTATE classes (PostgreSQL, appendix A). Data that the store refuses: park it.
_POISON = ("22", "23", "54")
# Something is away, full, locked or shutting down; 0A000 is a cached plan that has to be made anew: try again.
_TRANSIENT = ("08", "40", "53", "55", "57", "58", "0A000", "25006", "25P03")


def translate(error: BaseException) -> RuntideError:
    """Return what to raise instead of ``error``, which asyncpg or the network has raised.

    Everything else that PostgreSQL says (class 42, say: no such table, no permission) stops the projector: our
    statements are fixed, so that no event can be to blame, and trying again would not help either.
    """
    text = f"PostgreSQL: {type(error).__name__}: {error}"
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state.startswith(_POISON):
            return PoisonEvent(text)
        return TransientError(text) if state.startswith(_TRANSIENT) else FatalError(f"{text} (SQLSTATE {state})")
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return TransientError(text)
    return FatalError(text)
