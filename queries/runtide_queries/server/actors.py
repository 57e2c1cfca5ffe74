"""On whose behalf something is done: what the envelope's ``actor`` says of it."""

from fastapi import Request

from runtide_queries.server.access import Caller


def actor_of(request: Request) -> str:
    """Return the name of the caller's token, else the user that basic auth names, else nothing.

    A token's name was given by who made it; a user's is the client's word.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    return (caller.name or caller.user) if caller is not None else ""
