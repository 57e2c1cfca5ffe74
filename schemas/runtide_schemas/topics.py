"""The topics: partition counts, and what each is keyed by (design of the log)."""

from dataclasses import dataclass

RUNS = "runtide.runs"
METRICS = "runtide.metrics"
REQUESTS = "runtide.requests"
CATALOG = "runtide.catalog"
DEPLOYMENTS = "runtide.deployments"
QUARANTINE = "runtide.quarantine"
LIVENESS = "runtide.liveness"

DEFAULT_PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the log.

    Attributes:
        name: its name.
        ordered: True when the whole topic is one total order (one partition, always).
        keyed_by: what the record key is.
    """

    name: str
    ordered: bool
    keyed_by: str

    def partitions(self, spread: int = DEFAULT_PARTITIONS) -> int:
        """Return the number of partitions when the spread topics have ``spread``."""
        return 1 if self.ordered else spread


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(RUNS, ordered=False, keyed_by="run_id"),
        Topic(METRICS, ordered=False, keyed_by="run_id + writer_id"),
        Topic(REQUESTS, ordered=True, keyed_by="nothing"),
        Topic(CATALOG, ordered=True, keyed_by="entity"),
        Topic(DEPLOYMENTS, ordered=True, keyed_by="endpoint"),
        Topic(QUARANTINE, ordered=False, keyed_by="as the source"),
        Topic(LIVENESS, ordered=True, keyed_by="run_id"),
    )
}
