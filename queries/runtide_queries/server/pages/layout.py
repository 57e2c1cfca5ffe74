"""The frame of every page: head, navigation, content; and tables, which most content is."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from starlette.responses import HTMLResponse

from runtide_queries.server.pages.formats import NOTHING
from runtide_queries.server.pages.html import Markup, Node, element, join, script
from runtide_queries.server.safety import CONTENT_SECURITY_POLICY

_SECTIONS = (("Runs", "/"), ("Models", "/models"), ("Endpoints", "/endpoints"), ("Status", "/status"), ("API", "/api"))


@cache
def style_sheet() -> bytes:
    """Return our one CSS file."""
    return files("runtide_queries").joinpath("server", "pages", "style.css").read_bytes()


@cache
def _style_address() -> str:
    return f"/static/style.css?{hashlib.sha256(style_sheet()).hexdigest()[:12]}"


def page(title: str, section: str, *content: Node, status: int = 200, code: str = "") -> HTMLResponse:
    """Return a whole page. ``section`` is the navigation entry it belongs to, ``code`` the one script that may run on it."""
    links = [
        element("a", name, href=address, aria_current="page" if name == section else None)
        for name, address in _SECTIONS
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · Runtide"),
        element("link", rel="stylesheet", href=_style_address()),
        element("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        script(code) if code else None,
    )
    brand = element("a", "Runtide", href="/", class_="brand")
    body = element(
        "body",
        element("header", brand, element("nav", *links, aria_label="Sections"), class_="top"),
        element("main", *content),
    )
    headers = {"content-security-policy": _policy_for(code)} if code else None
    return HTMLResponse(f"<!doctype html>{element('html', head, body, lang='en')}", status_code=status, headers=headers)


@cache
def _policy_for(code: str) -> str:
    """Return the policy that lets this script run and no other."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return f"{CONTENT_SECURITY_POLICY}; script-src 'sha256-{digest}'"


def table(head: Sequence[Node], rows: Iterable[Sequence[Node]], *, numbers: Iterable[int] = (), empty: str) -> Markup:
    """Return a table that scrolls by itself when it is too wide; ``numbers`` are the columns set right."""
    right = set(numbers)
    body = [
        element("tr", *(element("td", cell, class_="number" if at in right else None) for at, cell in enumerate(row)))
        for row in rows
    ]
    if not body:
        return element("p", empty, class_="empty")
    titles = [
        element("th", cell, scope="col", class_="number" if at in right else None) for at, cell in enumerate(head)
    ]
    return element(
        "div",
        element("table", element("thead", element("tr", *titles)), element("tbody", *body)),
        class_="scroll",
        tabindex="0",
    )


def section(title: str, *content: Node, count: int | None = None) -> Markup:
    """Return a part of a page under a heading, with how many things it lists."""
    badge = element("span", count, class_="count") if count is not None else None
    return element("section", element("h2", title, badge), *content)


def facts(pairs: Iterable[tuple[str, Node]]) -> Markup:
    """Return a list of names and values; those without a value are left out."""
    told = [
        element("div", element("dt", name), element("dd", value)) for name, value in pairs if value not in (None, "")
    ]
    return element("dl", *told, class_="facts")


def state(name: str | None) -> Markup:
    """Return a state such as FINISHED or serving as a coloured badge."""
    return (
        element("span", name or "unknown", class_=f"state {(name or 'unknown').lower()}") if name else join([NOTHING])
    )
