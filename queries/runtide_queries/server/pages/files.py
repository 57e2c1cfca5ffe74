"""The style sheet and the icon."""

from functools import cache
from importlib.resources import files

from starlette.responses import Response

from runtide_queries.server.pages.layout import style_sheet
from runtide_queries.server.policy import Policy, Route

_CACHED = {"cache-control": "public, max-age=86400"}


async def style() -> Response:
    """Give the style sheet; its address carries its digest, so that it may be cached."""
    return Response(style_sheet(), media_type="text/css", headers=_CACHED)


async def icon() -> Response:
    """Give the icon."""
    return Response(_icon(), media_type="image/svg+xml", headers=_CACHED)


@cache
def _icon() -> bytes:
    return files("runtide_queries").joinpath("server", "pages", "icon.svg").read_bytes()


ROUTES = (
    Route("GET", "/static/style.css", style, Policy.OPEN, "Style sheet"),
    Route("GET", "/static/icon.svg", icon, Policy.OPEN, "Icon"),
)
