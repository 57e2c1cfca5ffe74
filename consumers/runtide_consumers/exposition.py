"""A projector's numbers for Prometheus: how far it is behind, how large its batches are, how long they take."""

import logging
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtide_consumers.counters import Counters, ObserveBatch
from runtide_consumers.projection import TopicPartition

log = logging.getLogger(__name__)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_EVENTS = (1, 10, 100, 1_000, 10_000, 100_000)
_TOTALS = {
    "events": "Events applied.",
    "bytes": "Bytes of the records read, keys and values.",
    "batches": "Transactions committed.",
    "parked": "Records put into quarantine.",
    "retries": "Times that a store or the broker was away.",
}


def registry_of(projection: str, counters: Counters) -> CollectorRegistry:
    """Return a registry with the numbers of one projector."""
    registry = CollectorRegistry()
    registry.register(_Totals(projection, counters))
    label, prefix = ("projection",), "runtide_projector"
    seconds = Histogram(f"{prefix}_apply_seconds", "Time of a transaction.", label, registry=registry, buckets=_SECONDS)
    events = Histogram(f"{prefix}_batch_events", "Events in a transaction.", label, registry=registry, buckets=_EVENTS)
    counters.observe_batch = _observer(seconds.labels(projection), events.labels(projection))
    return registry


def expose(projection: str, counters: Counters, host: str, port: int) -> None:
    """Serve them at ``http://host:port/metrics``, from a thread of its own, until the process ends.

    Raises:
        OSError: the port is taken.
    """
    server, _ = start_http_server(port, addr=host, registry=registry_of(projection, counters))
    log.info("metrics of %s at http://%s:%d/metrics", projection, host, server.server_port)


class _Totals(Collector):
    """Reads the counters when it is asked."""

    def __init__(self, projection: str, counters: Counters) -> None:
        self._projection = projection
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield every number."""
        for name, documentation in _TOTALS.items():
            total = CounterMetricFamily(f"runtide_projector_{name}", documentation, labels=["projection"])
            total.add_metric([self._projection], getattr(self._counters, name))
            yield total
        behind = self._counters.lag
        yield self._gauge("lag_events", "Offsets that the log is ahead of the store.", behind)
        yield self._gauge(
            "lag_bytes",
            "About how many bytes that is: the offsets, at the mean size of the records read.",
            {partition: events * self._counters.mean_bytes for partition, events in behind.items()},
        )
        yield self._gauge(
            "lag_seconds",
            "Age of the last record that was applied where the log is ahead, else 0.",
            self._counters.lag_seconds(),
        )

    def _gauge(self, name: str, documentation: str, values: Mapping[TopicPartition, float]) -> GaugeMetricFamily:
        labels = ["projection", "topic", "partition"]
        gauge = GaugeMetricFamily(f"runtide_projector_{name}", documentation, labels=labels)
        for (topic, partition), value in sorted(values.items()):
            gauge.add_metric([self._projection, topic, str(partition)], value)
        return gauge


def _observer(seconds: Histogram, events: Histogram) -> ObserveBatch:
    def observe(count: int, duration: float) -> None:
        events.observe(count)
        seconds.observe(duration)

    return observe
