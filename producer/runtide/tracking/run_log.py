"""Logging into a run: what returns at once, whatever network and broker do. Shared by ``Run`` and ``AsyncRun``."""

import os
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import time_ns
from typing import Any, Literal, SupportsFloat, get_args

from runtide.artifacts.store import ArtifactStore, StoredFile
from runtide.publisher.lag import LagCallback
from runtide.settings import ClientSettings
from runtide.tracking.companions import Companion, stop_all
from runtide.tracking.coordinates import check_step, check_timestamp
from runtide.tracking.datasets import dataset_input
from runtide.tracking.plan import Part, RunPlan
from runtide.tracking.process import run_ended, writer_opened
from runtide.tracking.writer import Leftover, Writer
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import InputsLogged, ParamsLogged, RunEnded, TagsDeleted, TagsSet
from runtide_schemas.identity import now_ms
from runtide_schemas.limits import (
    MAX_TAG_VALUE_LENGTH,
    check_key,
    check_metric_value,
    check_param_value,
    check_tags,
    check_text,
)

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
_REASONS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
_PER_EVENT_BYTES = 256 * 1024
_MAX_REASON = 8_000
EPOCH = "epoch"
NOTE_TAG = "mlflow.note.content"


class RunLog:
    """A run as this process writes to it.

    Attributes:
        run_id: 32 lowercase hexadecimal characters, or what the user chose.
        name: display name; empty when this process did not start the run.
        artifact_uri: root of the run's artifacts.
        tables: held while a table is read, extended and stored again.
    """

    def __init__(self, plan: RunPlan) -> None:
        """Open a writer of the run and say that the run began, if it is this process that starts it."""
        self.run_id = plan.run_id
        self.name = plan.name
        self.artifact_uri = plan.artifact_uri
        self._configuration = plan.configuration
        self._ending_pid = 0 if plan.part is Part.MEMBER else os.getpid()
        self._opening = threading.RLock()
        self._ended = False
        self._stored: dict[str, StoredFile] = {}
        self._companions: list[Companion] = []
        self._watch: tuple[LagCallback, float] | None = None
        self._counters: defaultdict[int, count[int]] | None = defaultdict(count) if plan.auto_step else None
        self.tables = threading.Lock()
        self._writer: Writer | None = None
        self._concluded: Writer | None = None
        self._unsaid: RunEnded | None = None
        self._append: Callable[[int, int, int, Any], None]
        self._append_all: Callable[[Sequence[tuple[int, int, int, Any]]], None]
        self._key_ids: Mapping[str, int] = {}
        self._begin(plan)

    @property
    def writer(self) -> Writer:
        """This process's writer; a forked child gets its own with its first call."""
        return self._writer or self._open_writer()

    @property
    def ended(self) -> bool:
        """True once the run has ended in this process."""
        return self._ended

    def log_metric(self, key: str, value: SupportsFloat, step: int | None = None, timestamp: int | None = None) -> None:
        """Log one point of a metric. Takes a microsecond; when it returns, ``kill -9`` does not lose the point.

        Args:
            key: name of the metric.
            value: anything that ``float`` takes but text and bool: numbers, NumPy scalars, one-element tensors; NaN
                and infinities are data.
            step: whole number; may repeat, come late or be negative. When None: 0; in a run with ``auto_step``, the number
                of this process's earlier points of this name that were given none.
            timestamp: Unix time in milliseconds; now when None.

        Raises:
            InvalidRequest: name, value, step or timestamp cannot be logged; nothing else is lost.
        """
        try:
            key_id = self._key_ids[key]
        except (KeyError, TypeError):
            key_id = self._new_key(key)
        if value.__class__ is not float:
            value = check_metric_value(key, value)
        if timestamp is None:
            timestamp = time_ns() // 1_000_000
        elif timestamp.__class__ is not int or timestamp < 0:
            timestamp = check_timestamp(timestamp)
        if step is None:
            step = 0 if self._counters is None else next(self._counters[key_id])
        try:
            self._append(key_id, step, timestamp, value)
        except struct.error:
            self._append(key_id, check_step(step), check_timestamp(timestamp), value)

    def log_metrics(
        self,
        metrics: Mapping[str, SupportsFloat],
        step: int | None = None,
        timestamp: int | None = None,
        *,
        epoch: float | None = None,
    ) -> None:
        """Log one point of each of several metrics; when one cannot be logged, none is. See ``log_metric``.

        Args:
            metrics: value by name.
            step: see ``log_metric``.
            timestamp: see ``log_metric``.
            epoch: logged as the metric ``epoch`` at the same step, which makes it an axis for the others; without a step,
                a whole epoch is the step, too.
        """
        at = time_ns() // 1_000_000 if timestamp is None else check_timestamp(timestamp)
        if epoch is not None:
            metrics = {**metrics, EPOCH: epoch}
            step = check_step(epoch) if step is None else step
        number = 0 if step is None else check_step(step)
        ids = self._key_ids
        points = []
        for key, value in metrics.items():
            try:
                key_id = ids[key]
            except (KeyError, TypeError):
                key_id = self._new_key(key)
                ids = self._key_ids
            if value.__class__ is not float:
                value = check_metric_value(key, value)
            points.append((key_id, number, at, value))
        if step is None and self._counters is not None:
            points = [(key_id, next(self._counters[key_id]), at, value) for key_id, _, at, value in points]
        self._append_all(points)

    def log_param(self, key: str, value: object) -> None:
        """Log a param. The first value of a name stays; a different second one is recorded as a conflict."""
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params; values are stored as text.

        Raises:
            InvalidRequest: a name or value cannot be stored; then none is logged.
        """
        checked = {check_key(key, "Param"): check_param_value(key, value) for key, value in params.items()}
        for part in in_parts(checked):
            self.writer.publish(ParamsLogged(run_id=self.run_id, params=part))

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag; the last value wins."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; values are stored as text."""
        for part in in_parts(check_tags(tags)):
            self.writer.publish(TagsSet(run_id=self.run_id, tags=part))

    def delete_tag(self, key: str) -> None:
        """Delete a tag."""
        self.writer.publish(TagsDeleted(run_id=self.run_id, keys=(check_key(key, "Tag"),)))

    def set_note(self, text: str) -> None:
        """Set the run's note, in Markdown, at most 8,000 characters; the last one wins. It is MLflow's description."""
        self.set_tags({NOTE_TAG: check_text(text, "Note", MAX_TAG_VALUE_LENGTH)})

    def log_input(
        self,
        name: str,
        digest: str = "",
        *,
        data: Any = None,
        context: str = "",
        source: str = "",
        source_type: str = "",
        schema: str = "",
        profile: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> None:
        """Log a dataset that the run uses.

        Args:
            name: of the dataset, at most 500 characters.
            digest: identifies its content, at most 36 characters.
            data: the data itself: a pandas DataFrame or Series, a NumPy array, a mapping of names to arrays, or the path
                of a file or folder. Digest, schema, profile and source that are not given are taken from it; all of it
                is read for that. The rule of the digest stands in ``tracking/datasets.py``.
            context: what it is used for, e.g. ``training``, ``validation`` or ``test``.
            source: where it comes from, e.g. a URI.
            source_type: kind of source, e.g. ``local``, ``s3``, ``http``.
            schema: columns and types, JSON by convention.
            profile: statistics, JSON by convention.
            tags: of the input.
        """
        given = {"digest": digest, "source": source, "source_type": source_type, "schema": schema, "profile": profile}
        dataset = dataset_input(name, data, given, context, tags)
        self.writer.publish(InputsLogged(run_id=self.run_id, datasets=(dataset,)))

    def on_delivery(self, callback: LagCallback, every: float = 1.0) -> None:
        """Be told what the broker has not acknowledged yet: points, events, the age of the oldest, and why.

        Called from the publisher's thread, so it must be quick; what it raises is said once, and delivery goes on. The last
        call of a run that is delivered says that nothing is left. One callback per run; a new one takes its place.

        Args:
            callback: takes a ``runtide.Lag``.
            every: seconds at least between calls. There are none while nothing is outstanding and nothing changes.
        """
        self._watch = (callback, every)
        self.writer.watch(callback, every)

    @property
    def settings(self) -> ClientSettings:
        """Limits and deadlines."""
        return self._configuration.settings

    @property
    def exit_deadline(self) -> float:
        """Seconds that an end waits for the broker."""
        return self._configuration.settings.exit_deadline

    @property
    def ends_for_all(self) -> bool:
        """True in the process that ends the run; others only close their writers."""
        return self._ending_pid == os.getpid()

    @property
    def spools(self) -> Path:
        """Where the spools of the run's writers on this machine lie."""
        return self._configuration.connection.spool / self.run_id

    @property
    def store(self) -> ArtifactStore:
        """Where the run's files go."""
        connection = self._configuration.connection
        return ArtifactStore(self.artifact_uri, self._stored, connection.gateway or connection.uri)

    @property
    def settled(self) -> bool:
        """True when the broker has everything of a concluded run: ``close`` then waits for nothing."""
        writer = self._concluded
        return writer is not None and writer.spool.finished

    def conclude(self, status: EndStatus | None, end_time: int = 0, reason: str = "") -> None:
        """End the run, whoever started it, without waiting for the broker; ``close`` or the process's end does that.

        When this returns, ``kill -9`` does not lose the end. Nothing happens when the run has ended in this process.

        Args:
            status: FINISHED, FAILED or KILLED; None closes this process's writer and leaves the run alone.
            end_time: Unix time in milliseconds.
            reason: why, for FAILED and KILLED.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the waiting for what accompanies the run; it has ended all the same.
        """
        waited = stop_all(self._companions, time.monotonic() + self.exit_deadline / 2)
        with self._opening:
            if self._ended:
                return
            writer, end = self.writer, None
            if status is not None:
                end = RunEnded(run_id=self.run_id, status=status, end_time=end_time, reason=reason[:_MAX_REASON])
            self._end(writer, end)
        self._say_end(writer)
        writer.conclude(_REASONS[status or "FINISHED"])
        if not waited:
            raise KeyboardInterrupt

    def close(self, status: str, reason: str, timeout: float | None) -> Leftover | None:
        """End the run in this process; see ``Run.end``. Ending twice does nothing, but for what Ctrl-C broke off.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the waiting, and nothing is left.
        """
        if status not in get_args(EndStatus):
            raise InvalidRequest(f"Run status must be one of {', '.join(get_args(EndStatus))}, got {status!r}")
        deadline = time.monotonic() + (self.exit_deadline if timeout is None else timeout)
        waited = stop_all(self._companions, time.monotonic() + (deadline - time.monotonic()) / 2)
        with self._opening:
            writer, end = self._writer or self._concluded, self._unsaid
            if self.ends_for_all and not self._ended:
                end = RunEnded(run_id=self.run_id, status=status, end_time=now_ms(), reason=reason[:_MAX_REASON])
            self._end(writer, end)
        run_ended(self)
        if writer is None:
            return None
        self._say_end(writer)
        leftover = writer.close(_REASONS[status], max(0.0, deadline - time.monotonic()) if waited else 0.0)
        self._concluded = None
        if waited:
            return leftover
        if leftover is None:
            raise KeyboardInterrupt
        return replace(leftover, interrupted=True)

    def became_child(self) -> None:
        """In a forked child: the writer stays the parent's; the next call opens this process's own."""
        self._opening = threading.RLock()
        self.tables = threading.Lock()
        self._counters = None if self._counters is None else defaultdict(count)
        while self._companions:
            self._companions.pop().abandon()
        self._key_ids = {}
        if writer := self._writer or self._concluded:
            writer.abandon_in_child()
            self._inherited = writer  # kept, so that nothing of the parent's is finalised here
            self._writer = self._concluded = self._unsaid = None

    def _end(self, writer: Writer | None, end: RunEnded | None) -> None:
        """Take no more. In this order Ctrl-C, after any step, leaves ``close`` the writer and the end that it has to say."""
        self._unsaid, self._concluded = end, writer
        self._ended = True
        self._writer, self._key_ids = None, {}

    def _say_end(self, writer: Writer) -> None:
        if self._unsaid is not None:
            writer.publish(self._unsaid)
            self._unsaid = None

    def _begin(self, plan: RunPlan) -> None:
        writer = self.writer
        if plan.part is Part.CREATOR:
            request = plan.experiment_request()
            started = plan.started("" if request is None else writer.publish(request))
            writer.publish(started, started.start_time)
            if plan.goes_on:
                writer.publish(plan.resumed())
        elif plan.part is Part.RESUMER:
            writer.publish(plan.resumed())
            self.set_tags(plan.tags)
        if plan.captures:
            from runtide.tracking.captures import begin  # imported late: it knows runs

            self._companions = begin(self, plan.captures, plan.part)

    def _open_writer(self) -> Writer:
        with self._opening:
            if self._ended:
                raise InvalidRequest(
                    f"run {self.run_id} has ended in this process; log to it again through runtide.attach(run_id)"
                )
            if self._writer is None:
                writer = Writer(self._configuration, self.run_id, creator=self._ending_pid == os.getpid())
                self._append = writer.spool.points.append
                self._append_all = writer.spool.points.append_all
                self._key_ids = writer.spool.keys.ids
                self._writer = writer
                if self._watch is not None:
                    writer.watch(*self._watch)
                writer_opened(self)
            return self._writer

    def _new_key(self, key: Any) -> int:
        return self.writer.spool.keys.add(check_key(key, "Metric"))


def in_parts(items: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Split what would not fit into one event."""
    part: dict[str, str] = {}
    size = 0
    for key, value in items.items():
        part[key] = value
        size += len(key.encode()) + len(value.encode())
        if size > _PER_EVENT_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part
