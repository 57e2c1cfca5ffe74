"""The page of one run, and the page of its events."""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.responses import Response

from runtide_queries.buckets import Bucket
from runtide_queries.completeness import Completeness, Sequence, get_completeness
from runtide_queries.history import curves
from runtide_queries.log import LoggedEvent
from runtide_queries.runs import RunDetail, get_run, unknown_run
from runtide_queries.server.answers import Json
from runtide_queries.server.events import event_json
from runtide_queries.server.pages.formats import NOTHING, duration, moment, number, size
from runtide_queries.server.pages.html import Markup, Node, element
from runtide_queries.server.pages.layout import facts, page, section, state, table
from runtide_queries.server.pages.sparkline import sparkline
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores, Stores
from runtide_schemas.envelope import format_time
from runtide_schemas.errors import RuntideError
from runtide_schemas.limits import check_run_id

MOST_CURVES = 60
MOST_EVENTS = 300
_BUCKETS = 80
_OF_A_MODEL = re.compile(r"models/(m-[0-9a-f]{32})/(.+)")
"""Where the log has the files that MLflow's clients keep beside a run, for one of its models."""
_UNSAID: tuple[object, ...] = ("", None, {}, [], ())

Curves = Mapping[str, tuple[Bucket, ...]]


async def run_page(stores: AskStores, run_id: str) -> Response:
    """Show everything known of a run."""
    detail = await get_run(stores.postgres, check_run_id(run_id))
    completeness = await get_completeness(stores.postgres, stores.history, run_id)
    drawn, problem = await _curves(stores, detail)
    info = detail.run.info
    return page(
        info.name or run_id,
        "Runs",
        element("h1", info.name or run_id),
        element("p", element("code", run_id), class_="sub"),
        element("p", f"{detail.deletion}.", class_="note") if detail.deletion else None,
        element("p", problem, class_="note") if problem else None,
        _about(detail, completeness),
        _metrics(detail, drawn),
        element("div", _pairs("Params", detail.run.params), _pairs("Tags", detail.run.tags), class_="columns"),
        _conflicts(detail),
        _artifacts(detail, stores),
        _models(detail),
        _inputs(detail),
        _writers(detail, completeness),
    )


async def _curves(stores: Stores, detail: RunDetail) -> tuple[Curves, str]:
    """Return the curves to draw; the page comes without pictures while the history store is away."""
    keys = list(detail.run.metrics)[:MOST_CURVES]
    try:
        found = await curves(stores.history, [detail.run.info.run_id], keys, buckets=_BUCKETS)
    except RuntideError as error:
        return {}, f"No pictures of the curves: {error}"
    return {curve.key: curve.buckets for curve in found}, ""


def _about(detail: RunDetail, completeness: Completeness) -> Markup:
    info = detail.run.info
    parent = info.parent_run_id
    experiment = info.experiment_id or info.experiment_name or ""
    return facts(
        [
            ("Status", state(info.status) if info.status else None),
            ("Silent since (UTC)", moment(info.silent_since) if info.status == "LOST" else None),
            (
                "Experiment",
                element("a", info.experiment_name or experiment, href=f"/?{urlencode({'experiment': experiment})}"),
            ),
            ("Started (UTC)", moment(info.start_time)),
            ("Duration", duration(info.start_time, info.end_time)),
            ("Is it all here?", element("span", state(completeness.state), " ", completeness.summary)),
            ("User", info.user_id),
            ("Source", " ".join(filter(None, (info.source_name, info.source_version)))),
            ("Parent", element("a", parent, href=f"/runs/{parent}") if parent else None),
            ("Ended because", info.end_reason),
            ("Artifacts at", info.artifact_uri),
            ("In the log", element("a", "events of this run", href=f"/runs/{info.run_id}/events")),
            ("As JSON", element("a", "this run", href=f"{API}/runs/{info.run_id}")),
        ]
    )


def _metrics(detail: RunDetail, drawn: Curves) -> Markup:
    rows = [
        (
            element("a", metric.key, href=f"{API}/runs/{detail.run.info.run_id}/metrics/{metric.key}?points=500"),
            sparkline(drawn.get(metric.key, ()), metric.key),
            element("span", number(metric.last_value), class_="strong"),
            number(metric.min_value),
            number(metric.max_value),
            f"{metric.last_step:,}",
            f"{metric.point_count:,}" + (f" ({metric.nan_count:,} NaN)" if metric.nan_count else ""),
        )
        for metric in detail.run.metrics.values()
    ]
    head = ("Metric", "Curve", "Last", "Min", "Max", "Step", "Points")
    return section("Metrics", table(head, rows, numbers=range(2, 7), empty="No metrics logged."), count=len(rows))


def _pairs(title: str, pairs: Mapping[str, str]) -> Markup:
    rows = [(key, element("div", value, class_="wide")) for key, value in pairs.items()]
    return section(title, table(("Key", "Value"), rows, empty=f"No {title.lower()} logged."), count=len(rows))


def _conflicts(detail: RunDetail) -> Node:
    rows = [(one.key, one.value, detail.run.params.get(one.key), one.writer_id[:8]) for one in detail.param_conflicts]
    if not rows:
        return None
    head = ("Key", "Refused value", "Value that counts", "Writer")
    return section("Params logged again with another value", table(head, rows, empty=""), count=len(rows))


def _artifacts(detail: RunDetail, stores: Stores) -> Markup:
    rows = [
        (
            _file(detail.run.info.run_id, one.path, within_reach=stores.artifacts.kept_at(one.uri) is not None),
            size(one.size),
            one.content_type,
            element("code", one.sha256[:16], title=one.sha256),
            moment(one.stored_at),
        )
        for one in detail.artifacts
    ]
    head = ("Path", "Size", "Type", "SHA-256", "Stored (UTC)")
    return section("Artifacts", table(head, rows, numbers=[1], empty="No artifacts logged."), count=len(rows))


def _file(run_id: str, path: str, *, within_reach: bool) -> Node:
    """Return a file's path, which is a link to download it unless it lies where this gateway reads nothing."""
    if not within_reach:
        return path
    if of_model := _OF_A_MODEL.fullmatch(path):
        asked = urlencode({"artifact_file_path": of_model[2]})
        address = f"/ajax-api/2.0/mlflow/logged-models/{of_model[1]}/artifacts/files?{asked}"
    else:
        address = f"/get-artifact?{urlencode({'run_id': run_id, 'path': path})}"
    return element("a", path, href=address)


def _models(detail: RunDetail) -> Node:
    versions: dict[str, list[Node]] = {}
    for version in detail.model_versions:
        link = element("a", f"{version.name} v{version.version}", href=f"/models/{quote(version.name, safe='')}")
        versions.setdefault(version.model_id or "", []).append(link)
    rows = [
        (
            one.name,
            ", ".join(one.flavors) or NOTHING,
            size(one.size or None),
            element("code", one.model_id),
            element("div", *versions.get(one.model_id, [NOTHING]), class_="chips"),
        )
        for one in detail.logged_models
    ]
    head = ("Model", "Flavors", "Size", "Id", "Registered as")
    return section("Models", table(head, rows, numbers=[2], empty=""), count=len(rows)) if rows else None


def _inputs(detail: RunDetail) -> Node:
    rows = [(one.name, element("code", one.digest), one.source_type, one.source) for one in detail.inputs]
    head = ("Dataset", "Digest", "Source type", "Source")
    return section("Datasets", table(head, rows, empty=""), count=len(rows)) if rows else None


def _writers(detail: RunDetail, completeness: Completeness) -> Markup:
    known = {writer.writer_id: writer for writer in detail.writers}
    empty = "All of it came through a gateway." if known else "No writer is known yet."
    rows = [_writer_row(one, known.get(one.writer_id)) for one in completeness.sequences]
    head = ("Writer", "Rank", "Host", "Process", "Topic", "State", "Received", "Of", "Missing", "Closed")
    return section(
        "Writers",
        table(head, rows, numbers=[1, 3, 6, 7], empty=empty),
        count=len({row.writer_id for row in completeness.sequences}),
    )


def _writer_row(sequence: Sequence, writer: object) -> tuple[Node, ...]:
    ranges = ", ".join(
        f"{gap.first}-{gap.last}" if gap.first < gap.last else str(gap.first) for gap in sequence.missing
    )
    closed = getattr(writer, "closed_at", None)
    return (
        element("code", sequence.writer_id[:8], title=sequence.writer_id),
        sequence.rank,
        sequence.host,
        sequence.pid,
        sequence.topic,
        state(sequence.state),
        f"{sequence.received:,}",
        "?" if sequence.final_count is None else f"{sequence.final_count:,}",
        ranges or NOTHING,
        element("span", moment(closed), f" ({sequence.close_reason})") if closed else NOTHING,
    )


async def events_page(stores: AskStores, run_id: str) -> Response:
    """Show the first events of a run, as they lie in the log."""
    found, truncated = await stores.log.first_events(check_run_id(run_id), MOST_EVENTS)
    rows = [_event_row(event) for event in found]
    if not rows:
        raise unknown_run(run_id)
    return page(
        f"Events of {run_id[:8]}",
        "Runs",
        element("h1", "Events of a run"),
        element(
            "p", "In time order, straight from the log: ", element("a", run_id, href=f"/runs/{run_id}"), class_="sub"
        ),
        table(("Time", "Event", "Writer·seq", "Where", "What"), rows, empty=""),
        element("p", f"Only the first {MOST_EVENTS} events are shown.", class_="sub pages") if truncated else None,
    )


def _event_row(event: LoggedEvent) -> tuple[Node, ...]:
    origin, envelope = event.origin, event.envelope
    told = {key: value for key, value in event_json(event)["body"].items() if key != "run_id" and value not in _UNSAID}
    return (
        format_time(envelope.time),
        element("span", envelope.type, class_="strong"),
        element("code", f"{envelope.writer[:8]}·{envelope.seq}", title=envelope.writer),
        element("code", f"{origin.topic}-{origin.partition}@{origin.offset}"),
        element("div", event.problem or bytes(Json(told).body).decode()[:600], class_="wide mono"),
    )


ROUTES = (
    Route("GET", "/runs/{run_id}", run_page, Policy.READ, "Page: one run"),
    Route("GET", "/runs/{run_id}/events", events_page, Policy.READ, "Page: events of a run"),
)
