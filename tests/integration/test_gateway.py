"""The gateway as a process over real stores and a real log: what each route answers, and what its pages show."""

import asyncio
import inspect
import math
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pyarrow as pa
import pytest

from runtide_queries.log import Log, LoggedEvent
from runtide_queries.server.app import ROUTES
from runtide_queries.server.mlflow.unsupported import traces
from runtide_queries.server.policy import Route
from runtide_schemas.envelope import format_time
from runtide_schemas.events.runs import RunStarted
from runtide_schemas.topics import METRICS, RUNS
from tests.integration.gateway_stack import (
    API,
    AT,
    BEST,
    BROKEN,
    FINISHED,
    INJECTION,
    WRITERS,
    GatewayStack,
    filled_log,
    running_gateway_stack,
    wait_until,
)
from tests.openapi_answers import Described
from tests.postgres import PostgresServer

HOSTILE_VALUES = [
    "\x00", "a\x00b", "'", "''; DROP TABLE runs; --", "../../etc/passwd", "..", ".", "/", "\\", "9" * 400, "-1", "1e999", "NaN", "",
    "a" * 3000, "{}", "[]", "%", "%s%n", "%2e%2e", "\U0001f600", "\u202e", "\n", "\r\nX-Injected: 1", "metrics.loss < 1e999", "params.a LIKE '\\'",
    "metrics.\x00 < 1", "params.a = '\x00'", "WyJzIl0", "2147483648", "9223372036854775808", "true", "*",
]  # fmt: skip
PAGES = [
    "/",
    "/models",
    "/models/digits-model",
    "/endpoints",
    "/status",
    "/api",
    f"/runs/{BEST}",
    f"/runs/{BROKEN}",
    f"/runs/{BROKEN}/events",
]


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    folder = tmp_path_factory.mktemp("gateway")
    with postgres_server.database() as dsn, running_gateway_stack(folder, dsn, _in_own_loop_filled) as stack:
        yield stack


def _in_own_loop_filled(bootstrap: str) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, filled_log(bootstrap)).result()


def refused(stack: GatewayStack, path: str, status: int, code: str, **parameters: Any) -> str:
    reply = stack.client.get(API + path, params=parameters)
    assert (reply.status_code, reply.json()["error_code"]) == (status, code), reply.text
    return str(reply.json()["message"])


def test_health_and_readiness_tell_the_progress(stack: GatewayStack) -> None:
    assert stack.get("/health") == {"status": "ok"}
    ready = stack.get("/ready")
    assert (ready["ready"], ready["reasons"]) == (True, [])
    assert ready["log_events"] == 41
    for name in ("postgres", "duckdb"):
        projection = ready["projections"][name]
        assert projection["events_behind"] == 0
        assert sum(partition["end"] for partition in projection["partitions"]) == 41


def test_experiments_are_listed_and_found(stack: GatewayStack) -> None:
    assert [one["name"] for one in stack.get("/experiments")["experiments"]] == ["Default", "digits"]
    page = stack.get("/experiments", page_size=1)
    rest = stack.get("/experiments", page_size=1, page_token=page["next_page_token"])
    assert [one["experiment_id"] for one in page["experiments"] + rest["experiments"]] == ["0", "1"]
    assert rest["next_page_token"] == ""
    assert stack.get("/experiments/1")["tags"] == {"team": "vision"}
    assert stack.get("/experiments", name="digits")["experiments"][0]["experiment_id"] == "1"


def test_runs_are_searched_by_experiment_filter_and_order(stack: GatewayStack) -> None:
    def ids(**asked: Any) -> list[str]:
        return [run["info"]["run_id"] for run in stack.get("/runs", **asked)["runs"]]

    assert ids(experiment="digits", order_by="metrics.loss") == [BEST, FINISHED, BROKEN]
    assert ids(experiment="1", order_by="metrics.loss DESC") == [BROKEN, FINISHED, BEST]
    assert ids(experiment="Default") == []
    assert ids(filter="params.`learning rate` = '0.01'") == [BEST]
    assert ids(filter="metrics.`val/accuracy` > 0.8 AND status = 'FINISHED'") == [BEST]
    assert ids(id_prefix="cc") == [BROKEN]
    first = stack.get("/runs", page_size=2, order_by="name")
    second = stack.get("/runs", page_size=2, order_by="name", page_token=first["next_page_token"])
    assert len(first["runs"] + second["runs"]) == 3
    assert "unknown" in refused(stack, "/runs", 404, "RESOURCE_DOES_NOT_EXIST", experiment="unknown")
    assert "metrics." in refused(stack, "/runs", 400, "INVALID_PARAMETER_VALUE", filter="loss is low")
    refused(stack, "/runs", 400, "INVALID_PARAMETER_VALUE", page_size=0)
    refused(stack, "/runs", 400, "INVALID_PARAMETER_VALUE", page_size=1_000_000)
    refused(stack, "/runs", 400, "INVALID_PARAMETER_VALUE", lifecycle="x")
    refused(stack, "/runs", 400, "INVALID_PARAMETER_VALUE", page_token="x")


def test_a_run_is_told_whole(stack: GatewayStack) -> None:
    found = stack.get(f"/runs/{BEST}")
    info = found["run"]["info"]
    assert (info["name"], info["status"], info["experiment_name"], info["start_time"]) == (
        "wider net",
        "FINISHED",
        "digits",
        AT + 10,
    )
    assert found["run"]["params"] == {"layers": "3", "learning rate": "0.01", "optimizer": "adam"}
    assert [(one["key"], one["value"]) for one in found["param_conflicts"]] == [("optimizer", "sgd")]
    assert found["run"]["tags"] == {"purpose": "test"}
    loss, odd, hopeless = (found["run"]["metrics"][key] for key in ("loss", "odd", "hopeless"))
    assert (loss["point_count"], loss["last_step"]) == (300, 299)
    assert (odd["last_value"], odd["min_value"], odd["max_value"], odd["nan_count"]) == ("NaN", -2.0, "Infinity", 2)
    assert (hopeless["min_value"], hopeless["max_value"], hopeless["nan_count"]) == (None, None, 2)
    assert [one["path"] for one in found["artifacts"]] == ["plots/confusion.png"]
    assert found["inputs"][0]["tags"] == {"mlflow.data.context": "train"}
    assert found["logged_models"][0]["flavors"] == ["sklearn", "python_function"]
    assert [(one["name"], one["version"]) for one in found["model_versions"]] == [("digits-model", 2)]
    assert [one["writer_id"] for one in found["writers"]] == [WRITERS[BEST]]


def test_an_unknown_run_is_told_with_what_to_do(stack: GatewayStack) -> None:
    for path in ("", "/completeness", "/metrics/loss", "/metrics/loss?points=5", "/events"):
        assert "runtide sync" in refused(stack, f"/runs/{'f' * 32}{path}", 404, "RESOURCE_DOES_NOT_EXIST")
    refused(stack, "/compare", 404, "RESOURCE_DOES_NOT_EXIST", runs=f"{BEST},{'f' * 32}")
    refused(stack, "/experiments/99", 404, "RESOURCE_DOES_NOT_EXIST")
    refused(stack, "/experiments", 404, "RESOURCE_DOES_NOT_EXIST", name="none")
    refused(stack, "/models/none", 404, "RESOURCE_DOES_NOT_EXIST")


def test_history_comes_whole_or_in_buckets(stack: GatewayStack) -> None:
    whole = stack.get(f"/runs/{BEST}/metrics/loss")
    values = [point["value"] for point in whole["points"]]
    assert (whole["total"], len(values)) == (300, 300)
    assert values[7] == 0.1 + math.exp(-7 / 60) + 0.05 * math.sin(7)
    assert stack.get(f"/runs/{BEST}/metrics/odd")["points"][2]["value"] == "Infinity"
    cut = stack.get(f"/runs/{BEST}/metrics/loss", points=7)
    assert (cut["total"], len(cut["buckets"])) == (300, 7)
    assert [(one["first_step"], one["last_step"]) for one in cut["buckets"]][:2] == [(0, 42), (43, 85)]
    assert min(one["minimum"] for one in cut["buckets"]) == min(values)
    assert cut["buckets"][-1]["last"] == values[-1]
    assert cut["buckets"][0]["mean"] == pytest.approx(sum(values[:43]) / 43)
    assert len(stack.get(f"/runs/{BEST}/metrics/loss", points=1000)["buckets"]) == 300
    assert stack.get(f"/runs/{BEST}/metrics/val/accuracy", points=1)["buckets"][0]["points"] == 60
    (odd,) = stack.get(f"/runs/{BEST}/metrics/odd", points=1)["buckets"]
    assert (odd["minimum"], odd["maximum"], odd["mean"], odd["last"], odd["points"]) == (
        -2.0,
        "Infinity",
        -0.5,
        "NaN",
        5,
    )
    assert stack.get(f"/runs/{BEST}/metrics/never") == {"run_id": BEST, "key": "never", "total": 0, "points": []}
    refused(stack, f"/runs/{BEST}/metrics/loss", 400, "INVALID_PARAMETER_VALUE", points=1_000_000)


def test_completeness_names_what_is_missing(stack: GatewayStack) -> None:
    whole = stack.get(f"/runs/{BEST}/completeness")
    assert (whole["state"], whole["summary"]) == ("complete", "all 13 events of 1 writer are here")
    assert whole["history"] == {"lacking": 0, "parked": 0, "parked_since": None, "problem": ""}
    broken = stack.get(f"/runs/{BROKEN}/completeness")
    (gap,) = next(one["missing"] for one in broken["sequences"] if one["topic"] == METRICS)
    said = f"rank 3 is missing 1-2 of runtide.metrics since {format_time(gap['since'])}"
    assert (broken["state"], broken["summary"]) == ("missing", said)
    states = {one["topic"]: (one["state"], one["missing"], one["received"]) for one in broken["sequences"]}
    assert states == {METRICS: ("missing", [{"first": 1, "last": 2, "since": gap["since"]}], 2), RUNS: ("open", [], 4)}
    assert all(one["heard_at"] >= gap["since"] for one in broken["sequences"] if one["topic"] == METRICS)


def test_events_come_from_the_log_in_time_order(stack: GatewayStack) -> None:
    found = stack.get(f"/runs/{BEST}/events")
    types = [event["envelope"]["type"] for event in found["events"]]
    assert (len(types), types[0], types[-2:], found["truncated"]) == (
        13,
        "RunStarted",
        ["RunEnded", "WriterClosed"],
        False,
    )
    assert {event["envelope"]["subject"] for event in found["events"]} == {BEST}
    assert found["events"][0]["envelope"]["time"] == "2026-01-01T00:00:00.000Z"
    metrics = next(event for event in found["events"] if event["envelope"]["type"] == "MetricsLogged")
    assert metrics["body"] == {"run_id": BEST, "points": 300, "keys": ["loss"], "steps": [0, 299]}
    few = stack.get(f"/runs/{BEST}/events", most=3)
    assert (len(few["events"]), few["truncated"]) == (3, True)
    assert "MetricsLogged" not in {
        event["envelope"]["type"] for event in stack.get(f"/runs/{BEST}/events", metrics=False)["events"]
    }


async def test_the_log_reader_tells_its_progress(stack: GatewayStack) -> None:
    told: list[tuple[int, int]] = []
    events: list[LoggedEvent] = []
    async for event in Log(stack.kafka).events(FINISHED, progress=lambda done, total: told.append((done, total))):
        events.append(event)
    assert isinstance(events[0].body, RunStarted)
    assert [event.envelope.seq for event in events if event.origin.topic == RUNS] == list(range(9))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_runs_are_compared_side_by_side(stack: GatewayStack) -> None:
    found = stack.get("/compare", runs=f"{BEST},{FINISHED}", keys="loss,val/accuracy", points=5)
    assert [(run["name"], run["lifecycle_stage"]) for run in found["runs"]] == [
        ("wider net", "active"),
        ("first try", "active"),
    ]
    assert found["differing_params"] == ["learning rate"]
    assert found["params"]["learning rate"] == {BEST: "0.01", FINISHED: "0.1"}
    assert found["extremes"]["loss"]["lowest_run"] == BEST
    assert found["extremes"]["val/accuracy"] == {"lowest_run": FINISHED, "highest_run": BEST}
    assert found["extremes"]["hopeless"] == {"lowest_run": None, "highest_run": None}
    assert found["metrics"]["loss"][BEST] == stack.get(f"/runs/{BEST}")["run"]["metrics"]["loss"]
    assert {(one["run_id"], one["key"], len(one["buckets"])) for one in found["curves"]} == {
        (run, key, 5) for run in (BEST, FINISHED) for key in ("loss", "val/accuracy")
    }
    refused(stack, "/compare", 400, "INVALID_PARAMETER_VALUE")
    refused(stack, "/compare", 400, "INVALID_PARAMETER_VALUE", runs="../x")


def test_models_and_endpoints(stack: GatewayStack) -> None:
    (model,) = stack.get("/models")["models"]
    assert (model["name"], model["latest_version"], model["aliases"]) == ("digits-model", 2, {"champion": 2})
    versions = stack.get("/models/digits-model")["versions"]
    assert [(one["version"], one["run_id"], one["tags"]) for one in versions] == [
        (2, BEST, {"checked": "yes"}), (1, FINISHED, {"checked": "yes"}),
    ]  # fmt: skip
    (endpoint,) = stack.get("/endpoints")["endpoints"]
    assert (endpoint["endpoint"], endpoint["alias"]) == ("digits", "champion")
    (deployment,) = endpoint["deployments"]
    assert (deployment["state"], deployment["version"], deployment["instance"]) == ("serving", 2, {"pid": "11"})


def test_quarantine_says_what_is_parked_and_why(stack: GatewayStack) -> None:
    found = stack.get("/quarantine")
    assert found["counts"] == {"postgres": {"undecodable": 1}, "duckdb": {"undecodable": 1}}
    assert found["unavailable"] == {}
    (event,) = found["events"]
    assert (event["topic"], event["entity"], event["value_bytes"]) == (RUNS, "d" * 32, 8)
    assert stack.get("/quarantine", entity="nothing")["events"] == []


def sql(stack: GatewayStack, statement: str, **headers: str) -> httpx.Response:
    return stack.client.post(f"{API}/sql", json={"sql": statement}, headers=headers)


def test_sql_over_history_as_json_and_arrow(stack: GatewayStack) -> None:
    statement = "SELECT key, count(*) AS n, max(value) AS v FROM metrics WHERE run_id = 'bbbb' || repeat('b', 28) GROUP BY key ORDER BY key"
    found = sql(stack, statement).json()
    assert (found["columns"], found["types"], found["truncated"]) == (
        ["key", "n", "v"],
        ["string", "int64", "double"],
        False,
    )
    assert [row[:2] for row in found["rows"]] == [["hopeless", 2], ["loss", 300], ["odd", 5], ["val/accuracy", 60]]
    assert found["rows"][0][2] == "NaN"
    arrow = sql(stack, statement, accept="application/vnd.apache.arrow.stream")
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert pa.ipc.open_stream(arrow.content).read_all().column("n").to_pylist() == [2, 300, 5, 60]


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM read_text('/etc/passwd')", "DROP TABLE runs", "nonsense", "", "SELECT 1; SELECT 2"]
)
def test_other_sql_is_refused_with_a_reason(stack: GatewayStack, statement: str) -> None:
    reply = sql(stack, statement)
    assert (reply.status_code, reply.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert str(stack.gateway._log.parent) not in reply.text
    wrong = stack.client.post(f"{API}/sql", json={"statement": statement})
    assert (wrong.status_code, wrong.json()["message"]) == (400, "Invalid value for parameter 'sql': Field required")
    untyped = stack.client.post(f"{API}/sql", content=b'{"sql": "SELECT 1"}', headers={"content-type": "text/plain"})
    assert untyped.status_code == 400


def test_metrics_for_prometheus(stack: GatewayStack) -> None:
    stack.get("/health")
    text = stack.client.get("/metrics").text
    assert 'runtide_gateway_requests_total{method="GET",route="/api/runtide/v1/health",status="200"}' in text
    assert 'runtide_projection_lag_events{partition="0",projection="postgres",topic="runtide.catalog"} 0.0' in text
    assert 'runtide_projection_known{projection="duckdb"} 1.0' in text
    assert BEST not in text


def test_the_api_describes_itself(stack: GatewayStack) -> None:
    described = stack.get("/openapi.json")
    assert {"/api/runtide/v1/runs", "/api/runtide/v1/sql", "/api/runtide/v1/compare"} <= set(described["paths"])


@pytest.mark.timeout(400)
def test_real_answers_are_as_the_api_describes_them(stack: GatewayStack) -> None:
    """Every GET of ours with what there is, with what there is not, and of the past; and what is posted and put."""
    description = stack.get("/openapi.json")
    strict, lax = Described(description), Described(description, strict=False)
    asked: list[tuple[str, str, dict[str, Any]]] = [("POST", "/sql", {"json": {"sql": "SELECT 1.5 AS x, NULL AS y"}})]
    asked += [("POST", "/sql", {"json": {"sql": "DROP TABLE x"}}), ("POST", "/sql", {"content": b"{"})]
    asked += [
        ("POST", f"/quarantine/{what}", {"json": {"topic": RUNS, "partition": 0, "offset": 0}})
        for what in ("retry", "drop")
    ]
    asked += [
        ("POST", "/segments", {"content": b"x"}),
        ("PUT", "/artifact-uploads/{upload_id}", {"params": {"offset": 0}}),
    ]
    asked += [("POST", "/artifact-uploads", {"json": {"path": "a", "size": 1, "sha256": "0" * 64}})]
    asked += [
        ("POST", "/artifact-uploads/{upload_id}/complete", {"json": {}}),
        ("DELETE", "/artifact-uploads/{upload_id}", {}),
    ]
    variants: dict[str, list[dict[str, Any]]] = {
        "/compare": [{"runs": f"{BEST},{BROKEN}", "keys": "loss,odd"}, {}], "/experiments": [{"name": "digits"}],
        "/runs": [{"experiment": "digits", "models": "true"}, {"filter": "("}], "/logged-models": [{"filter": "("}],
        "/runs/{run_id}/metrics/{key}": [{"points": 5}, {"by": "writer"}],
    }  # fmt: skip
    for path, operations in description["paths"].items():
        short = path.removeprefix(API)
        if "get" in operations and short != "/events" and not short.startswith("/signed-artifacts/"):
            names = {one["name"] for one in operations["get"].get("parameters", ())}
            moments = (
                [{"at": "now"}] if "at" in names else [{"from": "catalog:0@0", "to": "now"}] if "from" in names else []
            )
            asked += [("GET", short, {"params": one}) for one in ({}, *variants.get(short, ()), *moments)]
    places = {
        "run_id": BEST,
        "key": "odd",
        "experiment_id": "1",
        "name": "digits-model",
        "model_id": f"m-{BEST}",
        "request_id": "r",
        "upload_id": "0" * 64,
    }
    parked = stack.get("/quarantine")["events"][0]
    places |= {"topic": parked["topic"], "partition": str(parked["partition"]), "offset": str(parked["record_offset"])}
    seen = set()
    for method, path, options in asked:
        for values in (
            places,
            places
            | {"run_id": "f" * 32, "model_id": "m-none", "experiment_id": "99", "name": "none", "partition": "77"},
        ):
            named = values | ({"name": "digits"} if path.startswith("/endpoints/") and values is places else {})
            reply = stack.client.request(method, API + path.format_map(named), **options)
            media = reply.headers.get("content-type", "")
            body = reply.json() if media.startswith("application/json") else reply.text
            described = lax if "at" in options.get("params", {}) or path.endswith("/history") else strict
            faults = described.faults(method, API + path, reply.status_code, media, body)
            assert not faults, f"{method} {path} {options}: {faults}"
            seen.add((method, path, reply.status_code))
    answered = {(method, path) for method, path, status in seen if status in (200, 204)}
    missing = {(method, path) for method, path, _ in seen} - answered
    assert missing <= {("POST", "/segments"), ("PUT", "/artifact-uploads/{upload_id}")} | {
        ("POST", f"/quarantine/{what}") for what in ("retry", "drop")
    } | {("POST", "/artifact-uploads/{upload_id}/complete")}


class Page(HTMLParser):
    """What a page links to and is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href" and value]


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_no_script_but_ours_no_inline_style_and_no_dead_link(stack: GatewayStack, path: str) -> None:
    reply = stack.client.get(path, headers={"accept": "text/html"})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(reply.text)
    assert page.tags.count("script") == (1 if path == "/" else 0), "what leads from MLflow's links, and that alone"
    assert "style" not in page.tags
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}
    assert INJECTION not in reply.text
    for link in {link for link in page.links if link.startswith("/")}:
        assert stack.client.get(link, headers={"accept": "text/html"}).status_code == 200, link


def test_the_first_page_lists_runs_and_filters_them(stack: GatewayStack) -> None:
    everything = stack.client.get("/").text
    assert all(
        name in everything for name in ("wider net", "first try", "digits", "finished", "7 min 12 s", "&lt;script&gt;")
    )
    some = stack.client.get(
        "/", params={"experiment": "1", "filter": "metrics.loss < 0.2", "order_by": "metrics.loss"}
    ).text
    assert "wider net" in some
    assert "first try" not in some
    wrong = stack.client.get("/", params={"filter": "<b>"}, headers={"accept": "text/html"})
    assert wrong.status_code == 400
    assert "Invalid clause(s)" in wrong.text
    assert "<b>" not in wrong.text


def test_the_link_that_clients_of_mlflow_print_leads_to_the_run_in_the_list(stack: GatewayStack) -> None:
    [row] = [row for row in stack.client.get("/").text.split("<tr>") if BEST in row]
    assert f'id="/experiments/1/runs/{BEST}"' in row


def test_the_page_of_a_run_shows_curves_and_completeness(stack: GatewayStack) -> None:
    text = stack.client.get(f"/runs/{BEST}").text
    assert text.count("<svg") == 3
    assert all(
        part in text for part in ("val/accuracy", "plots/confusion.png", "all 13 events", "digits-model v2", "adam")
    )
    assert "rank 3 is missing 1-2 of runtide.metrics" in stack.client.get(f"/runs/{BROKEN}").text


def test_errors_on_pages_are_pages(stack: GatewayStack) -> None:
    for path in (f"/runs/{'f' * 32}", "/models/none", "/nothing"):
        reply = stack.client.get(path, headers={"accept": "text/html,*/*"})
        assert (reply.status_code, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert stack.client.get(path).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "line",
    [
        "GET /a/../b HTTP/1.1",
        "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        "GET /\x01 HTTP/1.1",
    ],
)
def test_raw_hostile_requests_get_a_4xx(stack: GatewayStack, line: str) -> None:
    host, port = stack.gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{line}\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split(b" ")[1][:1] == b"4", answer[:200]
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "route",
    [
        route
        for route in ROUTES
        if route.method == "GET" and route.endpoint is not traces and route.media != "text/event-stream"
    ],
    ids=lambda route: route.path,
)
def test_hostile_input_gets_an_answer_below_500(stack: GatewayStack, route: Route) -> None:
    names = [name for name in inspect.signature(route.endpoint).parameters if name not in {"stores", "request"}]
    places = re.findall(r"{(\w+)", route.path)
    usual = {
        "run_id": BEST,
        "key": "loss",
        "experiment_id": "1",
        "name": "digits-model",
        "model_id": f"m-{BEST}",
        "request_id": "r",
        "path": "a",
    }
    usual |= {"topic": RUNS, "partition": "0", "offset": "0"}
    for name in names:
        for value in HOSTILE_VALUES:
            filled = {place: quote(value if place == name else usual[place], safe="") for place in places}
            path = re.sub(r"{(\w+)(:path)?}", lambda found, filled=filled: filled[found[1]], route.path)  # type: ignore[misc]  # a default only binds the loop's value
            if {".", ".."} & set(path.split("/")):
                continue  # the client would ask for another path, perhaps one whose answer has no end
            reply = stack.client.get(
                path, params={} if name in places else {name: value}, headers={"accept": "text/html"}
            )
            assert reply.status_code < 500, (name, value, reply.text[:300])
            assert "Traceback" not in reply.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"sql": null}',
        b'{"sql": 1}',
        b'{"sql": "\\ud800"}',
        b"\xff",
        b"[" * 50_000,
        b'{"sql": "' + b"x" * 200_000 + b'"}',
    ],
)
def test_hostile_bodies_get_a_4xx(stack: GatewayStack, body: bytes) -> None:
    reply = stack.client.post(f"{API}/sql", content=body, headers={"content-type": "application/json"})
    assert 400 <= reply.status_code < 500, reply.text[:300]


def test_it_says_what_is_away_and_recovers(stack: GatewayStack, tmp_path: Path) -> None:
    """Last of the module: it kills the history store, then the log, then ends the gateway."""
    stack.history.kill()
    ready = stack.client.get(f"{API}/ready")
    assert ready.status_code == 503
    assert any(reason.startswith("duckdb: ") and "away" in reason for reason in ready.json()["reasons"])
    assert stack.client.get(f"{API}/runs/{BEST}/metrics/loss").status_code == 503
    assert sql(stack, "SELECT 1").json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    page = stack.client.get(f"/runs/{BEST}")
    assert page.status_code == 200
    assert "No pictures of the curves" in page.text
    doubtful = stack.get(f"/runs/{BEST}/completeness")
    assert (doubtful["state"], doubtful["history"]["lacking"]) == ("open", None)
    assert "the history store (DuckDB) cannot say whether it has the same" in doubtful["summary"]
    assert stack.get(f"/runs/{BEST}")["run"]["info"]["name"] == "wider net"
    stack.broker.kill()
    wait_until(lambda: "log: " in stack.client.get(f"{API}/ready").text, "the log is reported away")
    assert stack.client.get(f"{API}/runs/{BEST}/events").status_code == 503
    assert stack.client.get("/status").status_code == 200
    stack.broker.start()
    wait_until(lambda: "log: " not in stack.client.get(f"{API}/ready").text, "the log is back")
    assert len(stack.get(f"/runs/{BEST}/events")["events"]) == 13
    process = stack.gateway.process
    assert process is not None
    children = psutil.Process(process.pid).children(recursive=True)
    assert stack.gateway.stop() == 0
    assert not [child for child in children if child.is_running()]
    assert "Traceback" not in stack.gateway.log()
    assert process.returncode != -signal.SIGTERM
