"""The same random calls at our gateway and at a genuine MLflow server, of which each answer is compared.

``RUNTIDE_TWINS_SEED=N`` draws the calls of one seed again, ``RUNTIDE_TWINS_STEPS`` is how many there are. What differs on purpose (rows of the table
with ``ours=``) is not drawn.
"""

import os
import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.acceptance.stack import running_stack
from tests.conformance.mlflow_rest.case import Call, call
from tests.conformance.mlflow_rest.genuine import PYTHON, WITHOUT, genuine_server
from tests.conformance.mlflow_rest.server import Server
from tests.conformance.mlflow_rest.twins import Twins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(not PYTHON, reason=WITHOUT)]

SEEDS = [int(os.environ["RUNTIDE_TWINS_SEED"])] if "RUNTIDE_TWINS_SEED" in os.environ else [1, 2]
STEPS = int(os.environ.get("RUNTIDE_TWINS_STEPS", "80"))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """A stack and a genuine server."""
    folder = tmp_path_factory.mktemp("twins")
    with running_stack(folder / "data") as stack, genuine_server(tmp_path_factory.mktemp("genuine")) as url:
        servers = Server(url), Server(stack.file.gateway)
        yield Twins(*servers)
        for server in servers:
            server.close()


class _Registry:
    """Calls about a few registered models, whose names are odd."""

    def __init__(self, drawn: Random) -> None:
        self._drawn = drawn
        self.mark = uuid.uuid4().hex[:8]
        odd = ("a", "B", "ünï", "sp ace", "p%41", "😀", "x" * 200, "a&b=c", "it's", 'q"q')
        self._names = [f"{name}-{self.mark}" for name in odd]

    def beginning(self) -> list[Call]:
        """Return the calls that make those models that are drawn most often, each with two versions."""
        names = self._names[:3]
        versions = [call("POST model-versions/create", {"name": name, "source": "s3://b/m"}) for name in names * 2]
        return [*(call("POST registered-models/create", {"name": name}) for name in names), *versions]

    def step(self) -> tuple[Call, str]:
        """Return a call, and the model that it is about."""
        name = self._drawn.choice(self._names[: self._drawn.choice((3, len(self._names)))])
        return self._drawn.choice((self._models, self._versions, self._versions, self._marks))(name), name

    def _models(self, name: str) -> Call:
        described = self._drawn.choice(({}, {"description": self._drawn.choice(("", "x"))}))
        model = {"name": name, **described}
        return self._drawn.choice(
            (
                call("POST registered-models/create", model | self._drawn.choice(({}, {"tags": [self._tag()]}))),
                call("POST registered-models/create", model),
                call("POST registered-models/rename", {"name": name, "new_name": self._drawn.choice(self._names)}),
                call("PATCH registered-models/update", {"name": name, "description": self._drawn.choice(("x", "y"))}),
                call(
                    "DELETE registered-models/delete" if self._drawn.random() < 0.3 else "GET registered-models/get",
                    model,
                ),
                call("POST registered-models/get-latest-versions", {"name": name, "stages": self._stages(2)}),
            )
        )

    def _versions(self, name: str) -> Call:
        version = {"name": name, "version": self._number()}
        other = self._drawn.choice(self._names[:3])
        sources = ("s3://b/m", f"models:/{other}/{self._number()}", f"models:/{name}@champ", f"models:/{name}/latest")
        made = {"name": name, "source": self._drawn.choice(sources)}
        return self._drawn.choice(
            (
                call("POST model-versions/create", {"name": name, "source": "s3://b/m", "tags": [self._tag()]}),
                call(
                    "POST model-versions/create",
                    made | self._drawn.choice(({}, {"description": "d", "run_link": "http://l"})),
                ),
                call("PATCH model-versions/update", {**version, "description": self._drawn.choice(("x", "y"))}),
                call("DELETE model-versions/delete", version),
                call("GET model-versions/get-download-uri", version),
                self._transition(version),
            )
        )

    def _transition(self, version: dict[str, str]) -> Call:
        [stage] = self._stages(1)
        archives = stage in {"Staging", "Production"} and self._drawn.random() < 0.5
        asked = {**version, "stage": stage, "archive_existing_versions": archives}
        return call("POST model-versions/transition-stage", asked)

    def _marks(self, name: str) -> Call:
        alias = {"name": name, "alias": self._drawn.choice(("champ", "c-2", "latest", "Latest", "v1", "V2", "prod_1"))}
        of = self._drawn.choice(({"name": name}, {"name": name, "version": self._number()}))
        kind = "model-versions" if "version" in of else "registered-models"
        return self._drawn.choice(
            (
                call("POST registered-models/alias", {**alias, "version": self._number()}),
                call("GET registered-models/alias", alias),
                call("DELETE registered-models/alias", alias),
                call(f"POST {kind}/set-tag", {**of, **self._tag()}),
                call(f"DELETE {kind}/delete-tag", {**of, "key": self._tag()["key"]}),
            )
        )

    def _number(self) -> str:
        return self._drawn.choice("11122349")

    def _tag(self) -> dict[str, str]:
        return {"key": self._drawn.choice(("t", "u", "a b", "a/b")), "value": self._drawn.choice(("x", "y", ""))}

    def _stages(self, count: int) -> list[str]:
        return self._drawn.sample(("None", "Staging", "production", "Archived", "Production"), count)


class _Runs:
    """Calls about two experiments and a few runs of them."""

    def __init__(self, drawn: Random) -> None:
        self._drawn = drawn
        self._made = 0
        self.mark = uuid.uuid4().hex[:8]
        self.experiments = ("one", "two")

    def experiment(self, name: str) -> Call:
        """Return the call that makes one."""
        return call(
            "POST experiments/create", {"name": f"{name}-{self.mark}"}, saves={f"{name}{self.mark}": "experiment_id"}
        )

    def run(self) -> Call:
        """Return the call that begins another run."""
        self._made += 1
        about = {
            "experiment_id": self._experiment(),
            "run_name": self._drawn.choice(("r1", "r2")),
            "start_time": self._made,
        }
        return call("POST runs/create", about, saves={self._name(self._made): "run.info.run_id"})

    def step(self) -> tuple[Call, str]:
        """Return a call, and the run that it is about."""
        run = f"<{self._name(self._drawn.randint(max(1, self._made - 4), self._made))}>"
        return self._drawn.choice((self._change, self._log, self._log, self._of_experiment))(run), run

    def search(self) -> Call:
        """Return a search of all runs."""
        filters = (
            "",
            "metrics.m > 0",
            "metrics.m != 1",
            "params.p = '1'",
            "params.p != '1'",
            "tags.t = 'a'",
            "tags.t IS NULL",
            "params.p IS NULL",
            "status = 'RUNNING'",
            "end_time > 5",
            "run_name LIKE 'r%'",
            "dataset.name = 'd' AND dataset.digest != 'x'",
        )
        asked = {"experiment_ids": [f"<{name}{self.mark}>" for name in self.experiments]}
        views = ("ALL", "ACTIVE_ONLY", "DELETED_ONLY")
        return call(
            "POST runs/search",
            {**asked, "filter": self._drawn.choice(filters), "run_view_type": self._drawn.choice(views)},
        )

    def _change(self, run: str) -> Call:
        status = self._drawn.choice(("FINISHED", "FAILED", "RUNNING", "SCHEDULED", "KILLED"))
        changes: tuple[dict[str, Any], ...] = (
            {"status": status},
            {"status": status, "end_time": 50},
            {"run_name": "r3"},
            {},
        )
        return self._drawn.choice(
            (
                call("POST runs/update", {"run_id": run, **self._drawn.choice(changes)}),
                call("POST runs/delete", {"run_id": run}),
                call("POST runs/restore", {"run_id": run}),
                call("POST runs/set-tag", {"run_id": run, "key": "mlflow.runName", "value": self._drawn.choice("ab")}),
                call("POST runs/delete-tag", {"run_id": run, "key": self._drawn.choice("tu")}),
            )
        )

    def _log(self, run: str) -> Call:
        dataset = {
            "name": self._drawn.choice("de"),
            "digest": self._drawn.choice("xy"),
            "source_type": "s",
            "source": "1",
        }
        batch = {
            "metrics": [self._point() for _ in range(self._drawn.randrange(4))],
            "params": [self._pair(key) for key in self._drawn.sample("pqr", self._drawn.randrange(3))],
            "tags": [self._pair(self._drawn.choice("tuv"))],
        }
        return self._drawn.choice(
            (
                call("POST runs/log-metric", {"run_id": run, **self._point()}),
                call("POST runs/log-parameter", {"run_id": run, **self._pair(self._drawn.choice("pq"))}),
                call("POST runs/set-tag", {"run_id": run, **self._pair(self._drawn.choice("tu"))}),
                call("POST runs/log-batch", {"run_id": run, **batch}),
                call("POST runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset}]}),
            )
        )

    def _of_experiment(self, run: str) -> Call:
        del run
        about = {"experiment_id": self._experiment()}
        return self._drawn.choice(
            (
                call("POST experiments/set-experiment-tag", {**about, **self._pair("k")}),
                call("POST experiments/delete-experiment-tag", {**about, "key": "k"}),
                call("POST experiments/update", {**about, "new_name": f"{self._drawn.choice('abc')}-{self.mark}"}),
                call("GET experiments/get", about),
            )
        )

    def _experiment(self) -> str:
        return f"<{self._drawn.choice(self.experiments)}{self.mark}>"

    def _name(self, number: int) -> str:
        return f"run{number}x{self.mark}"

    def _pair(self, key: str) -> dict[str, str]:
        return {"key": key, "value": self._drawn.choice(("1", "2", "a", ""))}

    def _point(self) -> dict[str, Any]:
        value = self._drawn.choice((0, 1, -1, 0.5, "Infinity"))
        return {
            "key": self._drawn.choice("mn"),
            "value": value,
            "timestamp": self._drawn.randrange(5),
            "step": self._drawn.randrange(-1, 3),
        }


@pytest.mark.parametrize("seed", SEEDS)
def test_the_registry(twins: Twins, seed: int) -> None:
    registry = _Registry(Random(seed))
    for made in registry.beginning():
        twins.ask(made)
    for _ in range(STEPS):
        asked, name = registry.step()
        twins.ask(asked)
        twins.ask(call("GET registered-models/get", {"name": name}))
        found = {"filter": f"name LIKE '%-{registry.mark}'"}
        twins.ask(call("GET registered-models/search", {**found, "order_by": "name DESC", "max_results": 3}))
        twins.ask(call("GET model-versions/search", {**found, "order_by": ["name ASC", "version_number DESC"]}))


@pytest.mark.parametrize("seed", SEEDS)
def test_runs(twins: Twins, seed: int) -> None:
    runs = _Runs(Random(seed))
    for name in runs.experiments:
        twins.ask(runs.experiment(name))
    for step in range(STEPS):
        if step % 12 == 0:
            twins.ask(runs.run())
        asked, run = runs.step()
        twins.ask(asked)
        twins.ask(call("GET runs/get", {"run_id": run}))
        twins.ask(call("GET metrics/get-history", {"run_id": run, "metric_key": "m"}))
        twins.ask(runs.search(), ordered=False)
