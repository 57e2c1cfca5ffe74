"""Errors on pages: the same code and message that the API gives, readable."""

from starlette.requests import Request
from starlette.responses import Response

from runtide_queries.server.pages.html import element
from runtide_queries.server.pages.layout import page

_TITLES = {404: "Not found", 503: "Not available right now", 401: "A token is needed"}


def is_page(request: Request) -> bool:
    """Tell whether a person is looking: a path outside the API, asked for as HTML."""
    path = request.url.path
    return not path.startswith(("/api/", "/ajax-api/", "/metrics")) and "text/html" in request.headers.get("accept", "")


def failure_page(status: int, message: str) -> Response:
    """Return a page that tells what went wrong and what to do."""
    title = _TITLES.get(status, "That did not work")
    return page(title, "", element("h1", title), element("p", message, class_="note bad"), status=status)
