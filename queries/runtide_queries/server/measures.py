"""The gateway's own metrics: requests by route and status, their time, the projections' lag and quarantine, for Prometheus."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtide_queries.quarantine import KINDS, count_parked
from runtide_queries.server.readiness import get_readiness
from runtide_queries.server.stores import Stores

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """One registry per app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "runtide_gateway_requests", "Answered requests.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "runtide_gateway_request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._lag = Gauge(
            "runtide_projection_lag_events",
            "Events in the log that the projection has not applied.",
            ("projection", "topic", "partition"),
            registry=self._registry,
        )
        self._known = Gauge(
            "runtide_projection_known",
            "1 when the projection's place and the log's end are known, else 0.",
            ("projection",),
            registry=self._registry,
        )
        self._refused = Counter(
            "runtide_gateway_refused_callers",
            "Callers that were not let in: without a token, or with one that is unknown, expired, revoked, of another scope.",
            ("reason",),
            registry=self._registry,
        )
        self._tokens_readable = Gauge(
            "runtide_gateway_tokens_file_readable",
            "0 while the file of API tokens is damaged or gone, and what it said before counts; 1 also without one.",
            registry=self._registry,
        )
        self._tokens_readable.set(1)
        self._subscribers = Gauge(
            "runtide_gateway_subscribers", "Clients that are subscribed to events now.", registry=self._registry
        )
        self._slow_subscribers = Gauge(
            "runtide_gateway_slow_subscribers",
            "Subscribers that were cut off, since the gateway started, because they did not take what they were sent.",
            registry=self._registry,
        )
        self._parked = Gauge(
            "runtide_quarantine_events",
            "Records in the projection's quarantine; those of kind dropped are given up, the others wait.",
            ("projection", "kind"),
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. ``route`` is the route's pattern, never the path: paths are without number."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a caller that was not let in."""
        self._refused.labels(reason).inc()

    def tokens_readable(self, readable: bool) -> None:
        """Tell whether the file of tokens could be read when it last changed."""
        self._tokens_readable.set(readable)

    async def exposition(self, stores: Stores) -> tuple[bytes, int, dict[str, str]]:
        """Return body, status and headers of the metrics page, lag and quarantine asked for now."""
        self._subscribers.set(stores.subscriptions.open)
        self._slow_subscribers.set(stores.subscriptions.slow)
        readiness, parked = await asyncio.gather(get_readiness(stores), count_parked(stores.quarantines))
        self._parked.clear()
        for name, counts in parked.items():
            for kind in (*KINDS, *(counts.keys() - set(KINDS))):
                self._parked.labels(name, kind).set(counts.get(kind, 0))
        self._lag.clear()
        for name, projection in readiness.projections.items():
            self._known.labels(name).set(projection.events_behind is not None)
            for partition in projection.partitions:
                if partition.events_behind is not None:
                    labels = (name, partition.topic, str(partition.partition))
                    self._lag.labels(*labels).set(partition.events_behind)
        return generate_latest(self._registry), 200, {"content-type": CONTENT_TYPE_LATEST}


class Measured:
    """ASGI middleware that counts every answer under its route's pattern."""

    def __init__(self, app: ASGIApp, *, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            self._measures.answered(scope["method"], route, status, time.perf_counter() - started)
