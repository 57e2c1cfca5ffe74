"""The one rule about facts of the catalogue: each request is answered once, by the first fact that answers it.

Two registrars may be at work for a moment (one of them a zombie). Both decide the same requests in the same order; every
fold, the registrar's own included, ignores a fact whose request is not above the last one answered.
"""

from typing import Any


def is_news(fact: Any, last_request_offset: int) -> bool:
    """Return whether a fact answers a request that has not been answered: ``last_request_offset`` is -1 before any."""
    offset: int = fact.answer.request_offset
    return offset > last_request_offset
