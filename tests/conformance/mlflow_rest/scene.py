"""What a case finds on a server: entities made for it or shared by all, filled in where a string says ``$name`` or ``${name}``.

| `$...` | is |
|---|---|
| `$name` | a name that nobody used before; the same throughout one case |
| `$experiment`, `$run`, `$model`, `$version`, `$logged_model` | shared by cases that change nothing: an id, or a registered model's name (``$version``: of one that has version 1) |
| `$new_experiment`, `$new_run`, `$new_model`, `$new_version`, `$new_logged_model` | of this case alone |
| `$deleted_experiment`, `$deleted_run`, `$deleted_logged_model` | shared |
| any other | what a call of the case or of its setting saved under this name |
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.conformance.mlflow_rest.case import Call, Setting, call
from tests.conformance.mlflow_rest.server import Answer, Server
from tests.conformance.mlflow_rest.shapes import Each, Maybe, Unordered, mismatches

_PLACE = re.compile(r"\$\{?([a-z_]+)\}?")


class Scene:
    """The entities of one case, on a server that keeps those that are shared."""

    def __init__(self, server: Server) -> None:
        """Nothing is made before a string asks for it."""
        self._server = server
        self._values: dict[str, str] = {}

    def perform(self, wanted: Call) -> Answer:
        """Send a call with all places filled in, and save what it wants saved."""
        answer = self._server.send(self.filled(wanted))
        if answer.status < 300:
            self._values |= {name: _part(answer.json, path) for name, path in wanted.saves.items()}
        return answer

    def done(self, wanted: Call) -> Any:
        """Send a call that has to work; return its JSON."""
        answer = self.perform(wanted)
        assert answer.status < 300, f"{_shown(wanted)}: {answer.status} {answer.text[:2000]}"
        wrong = list(mismatches(self.filled(wanted.wanted), answer.json))
        assert not wrong, f"{_shown(self.filled(wanted))} answered:\n" + "\n".join(one[:500] for one in wrong)
        return answer.json

    def filled(self, value: Any) -> Any:
        """Return ``value`` with the entities' ids and names in the places of ``$...``."""
        if isinstance(value, str):
            return _PLACE.sub(lambda place: self[place[1]], value)
        if isinstance(value, re.Pattern):
            return re.compile(self.regex(value.pattern))
        if isinstance(value, Mapping):
            return {self.filled(key): self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if isinstance(value, Each | Maybe):
            return replace(value, shape=self.filled(value.shape))
        if isinstance(value, Unordered):
            return Unordered(tuple(self.filled(item) for item in value.items))
        if isinstance(value, Call):
            raw = value.raw and self.filled(value.raw.decode("latin-1")).encode("latin-1")
            return replace(value, path=self.filled(value.path), payload=self.filled(value.payload), raw=raw)
        return value

    def regex(self, pattern: str) -> str:
        """Return a regular expression with the places filled in, letter by letter."""
        return _PLACE.sub(lambda place: re.escape(self[place[1]]), pattern)

    def enter(self, setting: Setting) -> None:
        """Have what a setting has; it is made when the first case needs it."""
        self._values |= self._server.setting(setting.name, lambda: Scene(self._server)._made(setting))

    def _made(self, setting: Setting) -> dict[str, str]:
        for needed in setting.calls:
            self.done(needed)
        return self._values

    def __getitem__(self, name: str) -> str:
        """Return what is filled in for a name."""
        if name in self._values:
            return self._values[name]
        if name in SHARED:
            return self._server.shared(name, lambda: SHARED[name](Scene(self._server)))
        self._values[name] = NEW[name](self)
        return self._values[name]


def _shown(call_: Call) -> str:
    return f"{call_.verb} {call_.path} {str(call_.payload)[:500]}"


def _part(value: Any, path: str) -> str:
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return str(value)


def _experiment(scene: Scene) -> str:
    made = call("POST experiments/create", {"name": f"e-{uuid.uuid4().hex}"})
    return str(scene.done(made)["experiment_id"])


def _run(scene: Scene) -> str:
    made = call(
        "POST runs/create",
        {"experiment_id": "$experiment", "start_time": 1000, "run_name": "one", "user_id": "ada"},
    )
    return str(scene.done(made)["run"]["info"]["run_id"])


def _model(scene: Scene) -> str:
    made = call("POST registered-models/create", {"name": f"m-{uuid.uuid4().hex}"})
    return str(scene.done(made)["registered_model"]["name"])


def _version(scene: Scene) -> str:
    made = call("POST model-versions/create", {"name": "$new_model", "source": "s3://bucket/model"})
    return str(scene.done(made)["model_version"]["name"])


def _logged_model(scene: Scene) -> str:
    made = call("POST logged-models", {"experiment_id": "$experiment", "name": "net", "source_run_id": "$run"})
    return str(scene.done(made)["model"]["info"]["model_id"])


def _deleted_experiment(scene: Scene) -> str:
    scene.done(call("POST experiments/delete", {"experiment_id": "$new_experiment"}))
    return scene["new_experiment"]


def _deleted_run(scene: Scene) -> str:
    scene.done(call("POST runs/delete", {"run_id": "$new_run"}))
    return scene["new_run"]


def _deleted_logged_model(scene: Scene) -> str:
    scene.done(call("DELETE logged-models/$new_logged_model"))
    return scene["new_logged_model"]


NEW: Mapping[str, Callable[[Scene], str]] = {
    "name": lambda _: f"n-{uuid.uuid4().hex}",
    "new_experiment": _experiment,
    "new_run": _run,
    "new_model": _model,
    "new_version": _version,
    "new_logged_model": _logged_model,
}
SHARED: Mapping[str, Callable[[Scene], str]] = {
    "experiment": _experiment,
    "run": _run,
    "model": _model,
    "version": _version,
    "logged_model": _logged_model,
    "deleted_experiment": _deleted_experiment,
    "deleted_run": _deleted_run,
    "deleted_logged_model": _deleted_logged_model,
}
