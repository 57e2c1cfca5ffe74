"""The run that an integration logs a training to, and the promise that nothing of it disturbs the training.

Which run: the one that the callback was given, else the active one, else one of the callback's own, which is the active
one while the training lasts. Only its own is ended by a callback: FINISHED when the framework says that training ended,
FAILED when it did not. Frameworks seldom tell callbacks of an exception, so there are four ways to find out, the first
that comes: the framework says so (Lightning, scikit-learn); what the framework's training call holds is gone (``watch``);
the callback's next training begins; the process ends. ``with runtide.start_run():`` around a training needs none of them.
Its end waits for nobody: see ``own_run.py``.

Once a callback is made, nothing that it does raises: what cannot be logged is a warning of the logger ``runtide``, once. All
methods here hold to that; what a hook does beside calling them, it does in ``undisturbed``.
"""

import atexit
import contextlib
import copy
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from runtide.integrations.metric_names import MetricNames, legal_name
from runtide.integrations.own_run import OwnRun
from runtide.integrations.params import param_text
from runtide.integrations.undisturbed import Undisturbed, told
from runtide.tracking.active import enter, innermost
from runtide.tracking.configuration import Configuration, current
from runtide.tracking.plan import plan_attachment, plan_run
from runtide.tracking.process import handle_sigterm, status_of
from runtide.tracking.run import Run
from runtide.tracking.run_log import EndStatus
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.limits import check_metric_value, check_param_value

FRAMEWORK_TAG = "runtide.framework"
UNFINISHED = "the training did not finish: an exception or an interrupt left it"

_of_callbacks: "weakref.WeakSet[Run]" = weakref.WeakSet()
_of_searches: "weakref.WeakSet[Run]" = weakref.WeakSet()


class TrainingRun:
    """One callback's run, over any number of trainings, one at a time.

    Copies that are pickled (to the workers of a search) log to the run that was given, as further writers; without one
    to runs of their own, children of the run that was active where they were pickled.
    """

    def __init__(
        self,
        framework: str,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        searches: bool = False,
    ) -> None:
        """Remember what run to use; none is started yet.

        Args:
            framework: its name, a tag of the run.
            run: the run; the active one, or one of its own, when None.
            name: of a run of its own; random when None.
            experiment: of a run of its own; as in ``runtide.start_run`` when None.
            tags: of a run of its own.
            searches: its trainings consist of others, whose own runs become children of its own.
        """
        self._framework = framework
        self._searches = searches
        self._given = run
        self._given_id = ""
        self._parent_id = ""
        self._elsewhere: Configuration | None = None
        self._name = name
        self._experiment = experiment
        self._tags = {FRAMEWORK_TAG: framework, **(tags or {})}
        self._forget()

    def _forget(self) -> None:
        self._run: Run | None = None
        self._owned: OwnRun | None = None
        self._of: weakref.ref[Any] | None = None
        self._own_ids: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._ended_well: set[str] = set()
        self._pid = 0
        self._last_id = ""
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._names = MetricNames()
        self._params: set[str] = set()
        self._guard = Undisturbed(self._framework)

    @property
    def run(self) -> Run | None:
        """The run of the training that goes on; None between trainings, and when no run could be started."""
        return self._run

    @property
    def run_id(self) -> str | None:
        """Id of the run of the training that goes on, else of its own last one, else of the given one."""
        run = self._run or self._owned or self._given
        return None if run is None else run.run_id

    def begin(self, *, of: object = None, go_on: bool = False) -> None:
        """A training begins: choose its run.

        Args:
            of: what is trained, by which a later part of it finds its run; it is held weakly.
            go_on: it is one more part (an evaluation after the training, say): go on with the run of its own that ``of``
                had last, that the callback had last when ``of`` is None. There is a new run when there was none, and when
                it FAILED or was KILLED: it stays that.
        """
        self.end_unfinished()
        with self._guard.guarded("no run could be started"):
            run = self._choose(self._to_go_on_with(of) if go_on else "")
            if run.run_id != self._last_id:
                self._last_id, self._names, self._params = run.run_id, MetricNames(), set()
            self._run = run
            if run is not self._owned:
                run.set_tag(FRAMEWORK_TAG, self._framework)
        self.is_of(of)

    def is_of(self, trained: object) -> None:
        """The run that goes on is of the training of this; when it is of its own, later parts go on with it, too."""
        with contextlib.suppress(TypeError):  # not every type can be held weakly, or be a key
            self._of = None if trained is None else weakref.ref(trained)
            if trained is not None and self._run is not None and self._run is self._owned:
                self._own_ids[trained] = self._owned.run_id

    def knows(self, trained: object) -> bool:
        """Return True when the run that goes on is of the training of this, or one of its own that it can go on with."""
        return (self._of is not None and self._of() is trained) or bool(self._to_go_on_with(trained))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params, each name once: when a run has several trainings, the first one's values stay."""
        if self._run is None:
            return
        with self._guard.guarded("params are not logged"):
            new = {name: text for name, text in self.params_text(params).items() if name not in self._params}
            self._params |= new.keys()
            if new:
                self._run.log_params(new)

    def params_text(self, params: Mapping[Any, Any]) -> dict[str, str]:
        """Return params as they can be logged; what has no text, or none that can be stored, is left out, and said."""
        checked: dict[str, str] = {}
        for key, value in params.items():
            try:
                name = legal_name(key)
                checked.setdefault(name, check_param_value(name, param_text(value)))
            except InvalidRequest as error:
                self._guard.say(str(error))
            except Exception as error:  # noqa: BLE001 - the text is what anybody's ``__str__`` makes
                about = key if isinstance(key, str) else type(key).__name__
                self._guard.say(
                    f"the param {about!r} has no text, so it is not logged: {told(error)}", ("param", about)
                )
        return checked

    def log_metrics(self, metrics: Mapping[Any, Any], step: int, *, epoch: float | None = None) -> None:
        """Log one point of each metric; what is no number is left out, and said."""
        if self._run is None:
            return
        with self._guard.guarded("metrics are not logged"):
            points: dict[str, float] = {}
            for name, value in metrics.items():
                key = self._names.legal(name)
                if (other := self._names.same_as(name)) is not None:
                    self._guard.say(f"the metrics {other!r} and {name!r} are both logged as {key!r}")
                try:
                    points[key] = check_metric_value(key, value)
                except InvalidRequest as error:
                    self._guard.say(f"not logged: {error}")
                except Exception as error:  # noqa: BLE001 - the number is what anybody's ``__float__`` makes
                    self._guard.say(f"the metric {key!r} is not logged: {told(error)}", ("metric", key, type(error)))
            self._run.log_metrics(points, step, epoch=epoch)

    def log_files(self, path: str | Path, artifact_path: str) -> bool:
        """Store a file, or all files below a folder, in a folder of the run's artifacts; False when that failed."""
        stored = False
        if self._run is not None:
            with self._guard.guarded(f"{path} is not stored"):
                if Path(path).is_dir():
                    self._run.log_artifacts(path, artifact_path)
                else:
                    self._run.log_artifact(path, artifact_path)
                stored = True
        return stored

    def log_saved(self, save: Callable[[Path], object], artifact_path: str, file: str = "") -> None:
        """Store what ``save`` writes to the path it is called with: a file of that name, or a folder's files."""
        if self._run is None:
            return
        with (
            self._guard.guarded("the model could not be saved, so it is not stored"),
            tempfile.TemporaryDirectory() as folder,
        ):
            path = Path(folder) / file
            save(path)
            self.log_files(path, artifact_path)

    @contextlib.contextmanager
    def logging(self, what: str) -> Iterator[Run]:
        """Do something with the run, whose errors are said and not raised; needs a run that goes on."""
        if self._run is None:
            raise InvalidRequest("no training goes on")
        with self._guard.guarded(what):
            yield self._run

    def undisturbed(self, hook: str) -> contextlib.AbstractContextManager[None]:
        """Do in the block what a hook does; what it raises is said and goes no further."""
        return self._guard.guarded(f"{hook} failed")

    def watch(self, held: object, gone: Callable[[], None]) -> None:
        """Call ``gone`` when ``held``, which only the framework's call of a training holds, is there no more.

        Not called once the training has ended. With a traceback of an exception kept, what its frames hold is kept, too:
        then it is called late.
        """
        self._unwatch()
        with contextlib.suppress(TypeError):  # not every type can be watched
            self._finalizer = weakref.finalize(held, gone)
            self._finalizer.atexit = False

    def end(self, error: BaseException | None = None) -> None:
        """The training ended, by this exception when there is one; a run of its own is ended with the right status."""
        self._end(*status_of(error))

    def end_unfinished(self) -> None:
        """The training that goes on, if there is one, will not end: an exception left it."""
        self._end("FAILED", UNFINISHED)

    def _end(self, status: EndStatus, reason: str) -> None:
        self._unwatch()
        run, self._run, self._of = self._run, None, None
        if self._owned is not None and run is self._owned and self._pid == os.getpid():
            atexit.unregister(self._at_exit)
            if status == "FINISHED":
                self._ended_well.add(self._owned.run_id)
            else:
                self._ended_well.discard(self._owned.run_id)
            with self._guard.guarded("the run could not be ended"):
                self._owned.finish(status, reason)

    def _to_go_on_with(self, trained: object) -> str:
        """Id of the run that a later part of a training goes on with; empty when it needs a new one."""
        run_id = "" if self._owned is None else self._owned.run_id
        if trained is not None:
            try:
                run_id = self._own_ids.get(trained, "")
            except TypeError:  # not every type can be a key
                run_id = ""
        return run_id if run_id in self._ended_well else ""

    def _choose(self, earlier: str) -> Run:
        if self._given is not None:
            return self._given
        active = innermost()
        if active is not None and active not in _of_callbacks:
            return active
        configuration = self._elsewhere or current()
        parent = active.run_id if active is not None and active in _of_searches else self._parent_id
        if self._given_id:
            plan = plan_attachment(configuration, self._given_id)
        elif earlier:
            plan = plan_run(configuration, run_id=earlier)
        else:
            plan = plan_run(
                configuration,
                name=self._name,
                experiment=self._experiment,
                tags=self._tags,
                parent_run_id=parent,
                nested=bool(parent),
            )
        if plan.configuration.settings.handle_sigterm:
            handle_sigterm()
        return self._own(OwnRun(plan))

    def _own(self, run: OwnRun) -> OwnRun:
        enter(run)
        _of_callbacks.add(run)
        if self._searches:
            _of_searches.add(run)
        self._owned, self._pid = run, os.getpid()
        atexit.register(self._at_exit)
        return run

    def _at_exit(self) -> None:
        """At the process's end the training has not ended: an exception that nobody caught says more than we know."""
        status, reason = status_of(getattr(sys, "last_exc", None) or getattr(sys, "last_value", None))
        self._end(*((status, reason) if status != "FINISHED" else ("FAILED", UNFINISHED)))

    def _unwatch(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy logs to the same given run, and has its own trainings."""
        twin = copy.copy(self)
        twin._given, twin._parent_id, twin._elsewhere = self._given, self._parent_id, self._elsewhere
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process needs: a run stays in its own, its id and what ``runtide.init`` set travel."""
        active = innermost()
        given = self._given.run_id if self._given is not None else self._given_id
        parent = active.run_id if active is not None else self._parent_id
        kept = {name: self.__dict__[name] for name in ("_framework", "_name", "_experiment", "_tags", "_searches")}
        return {**kept, "_given_id": given, "_parent_id": parent, "_elsewhere": self._elsewhere or current()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be a copy between trainings."""
        self.__dict__.update(state, _given=None)
        self._forget()
