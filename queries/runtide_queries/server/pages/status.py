"""The page that tells whether everything keeps up: lag per projection, and what is in quarantine."""

from starlette.responses import Response

from runtide_queries.quarantine import DROPPED, list_quarantine
from runtide_queries.server.pages.formats import moment
from runtide_queries.server.pages.html import Markup, Node, element
from runtide_queries.server.pages.layout import page, section, table
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.readiness import ProjectionLag, get_readiness
from runtide_queries.server.stores import AskStores, Stores
from runtide_schemas.errors import RuntideError


async def status_page(stores: AskStores) -> Response:
    """Show progress, which is health."""
    readiness = await get_readiness(stores)
    notes = [element("p", reason, class_="note bad") for reason in readiness.reasons]
    return page(
        "Status",
        "Status",
        element("h1", "Status"),
        element("p", "How far behind the log each projection is. Nothing is lost while one is.", class_="sub"),
        *notes,
        *(_projection(name, lag) for name, lag in readiness.projections.items()),
        await _quarantine(stores),
    )


def _projection(name: str, lag: ProjectionLag) -> Markup:
    rows = [
        (f"{one.topic}-{one.partition}", f"{one.position:,}", _count(one.end), _count(one.events_behind))
        for one in lag.partitions
    ]
    title = f"{name}: {_count(lag.events_behind)} events behind"
    return section(
        title,
        table(("Partition", "Read to", "End", "Behind"), rows, numbers=[1, 2, 3], empty=lag.reason or "Not known."),
    )


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


async def _quarantine(stores: Stores) -> Node:
    try:
        found = await list_quarantine(stores.quarantines)
    except RuntideError:
        return None
    rows = [
        (
            f"{one.topic}-{one.partition}@{one.record_offset}",
            one.entity,
            f"{one.kind} ({', '.join(where.projection for where in one.projections)})",
            element("div", one.reason, class_="wide"),
            moment(one.parked_at),
        )
        for one in found.events
    ]
    head = ("Where", "About", "Kind (parked in)", "Why", "Parked (UTC)")
    count = sum(number for counts in found.counts.values() for kind, number in counts.items() if kind != DROPPED)
    return section("Quarantine", table(head, rows, empty="Nothing is parked."), count=count)


ROUTES = (Route("GET", "/status", status_page, Policy.READ, "Page: status"),)
