"""An unmodified MLflow client works against Runtide: scenarios of users, run by interpreters that have nothing of ours.

The same scenarios are asked of a genuine MLflow server (slow), so that what is wanted is what MLflow does. ``here`` is the client
of this environment (mlflow-skinny); ``3`` and ``2`` are full ones, which ``make test-mlflow`` installs beside this environment.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.alternating_gateways import alternating_gateways
from tests.acceptance.mlflow_servers import MLFLOW2, MLFLOW3, environment, genuine_server, interpreter
from tests.acceptance.second_gateway import second_gateway
from tests.acceptance.stack import RunningStack

SCENARIOS = Path(__file__).parent / "mlflow_scenarios"
REPOSITORY = Path(__file__).parents[2]
MODULES = (
    "command_line",
    "fluent",
    "models",
    "other_languages",
    "projects",
    "registry",
    "searching",
    "together",
    "tracking_client",
)
QUICK = ("other_languages",)
"""Modules that `make test` asks of the client of this environment; the others take their time and are asked in CI (`gate`)."""
OUTCOMES, PASSED, SKIPPED = "OUTCOMES", "passed", "skipped: "
"""As ``mlflow_scenarios/run.py`` says them, which this environment need not be able to import."""

pytestmark = pytest.mark.timeout(900)


def scenarios_of(module: str) -> list[str]:
    """Return the names of a module's scenarios, without importing it."""
    body = ast.parse((SCENARIOS / f"{module}.py").read_text()).body
    return [one.name for one in body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]


EVERY = [(module, scenario) for module in MODULES for scenario in scenarios_of(module)]


def marked(module: str, scenario: str, *marks: pytest.MarkDecorator) -> object:
    return pytest.param(module, scenario, marks=marks, id=f"{module}-{scenario}")


HERE = [marked(module, scenario, *([] if module in QUICK else [pytest.mark.gate])) for module, scenario in EVERY]
FOREIGN = [marked(module, scenario, pytest.mark.slow) for module, scenario in EVERY]

Ask = Callable[[str, str, str], str]
"""Client (a variable's name, or "" for this environment's), module, scenario; returns what became of it."""


def run_module(python: str, module: str, folder: Path, server: str, other: str) -> dict[str, str]:
    """Run a module's scenarios and return what became of each."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [python, "-m", "tests.acceptance.mlflow_scenarios.run", module],
        env=environment(
            folder,
            PYTHONPATH=str(REPOSITORY),
            PYTHONDONTWRITEBYTECODE="1",
            MLFLOW_TRACKING_URI=server,
            MLFLOW_OTHER_TRACKING_URI=other,
        ),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    _, found, told = done.stdout.rpartition(OUTCOMES)
    assert found, f"{module} broke off with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    outcomes: dict[str, str] = json.loads(told)
    return outcomes


def asking(folder: Path, server: str, other: str) -> Ask:
    """Return a question about scenarios that runs every module once for each client."""
    known: dict[tuple[str, str], dict[str, str]] = {}

    def ask(variable: str, module: str, scenario: str) -> str:
        if (variable, module) not in known:
            python = interpreter(variable) if variable else sys.executable
            known[variable, module] = run_module(python, module, folder / variable / module, server, other)
        return known[variable, module][scenario]

    return ask


def judge(outcome: str) -> None:
    """Fail with what the client saw, or skip with what it lacks."""
    if outcome.startswith(SKIPPED):
        pytest.skip(outcome.removeprefix(SKIPPED))
    assert outcome == PASSED, f"\n{outcome}"


@pytest.fixture(scope="module")
def runtide(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Our gateway, and a second one beside it."""
    folder = tmp_path_factory.mktemp("clients")
    with second_gateway(stack, folder) as other:
        yield asking(folder, stack.file.gateway, other)


@pytest.fixture(scope="module")
def alternating(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Two gateways behind one address: each request goes to the other one than the request before it."""
    folder = tmp_path_factory.mktemp("alternating")
    with (
        second_gateway(stack, folder) as other,
        alternating_gateways((stack.file.gateway, other)) as (address, counts),
    ):
        yield asking(folder, address, address)
        assert min(counts) > 0, f"not every gateway was asked: {counts}"


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A genuine server, which is its own neighbour."""
    folder = tmp_path_factory.mktemp("genuine")
    with ExitStack() as stack:
        server = stack.enter_context(genuine_server(folder / "server"))
        yield asking(folder, server, server)


@pytest.mark.parametrize(("module", "scenario"), HERE)
def test_the_client_of_this_environment(runtide: Ask, module: str, scenario: str) -> None:
    judge(runtide("", module, scenario))


@pytest.mark.parametrize(("module", "scenario"), FOREIGN)
def test_mlflow_3(runtide: Ask, module: str, scenario: str) -> None:
    judge(runtide(MLFLOW3, module, scenario))


@pytest.mark.parametrize(("module", "scenario"), FOREIGN)
def test_mlflow_3_on_two_gateways_in_turn(alternating: Ask, module: str, scenario: str) -> None:
    judge(alternating(MLFLOW3, module, scenario))


@pytest.mark.parametrize(("module", "scenario"), FOREIGN)
def test_mlflow_2(runtide: Ask, module: str, scenario: str) -> None:
    judge(runtide(MLFLOW2, module, scenario))


@pytest.mark.parametrize(("module", "scenario"), FOREIGN)
def test_a_genuine_server_does_so_too(genuine: Ask, module: str, scenario: str) -> None:
    judge(genuine(MLFLOW3, module, scenario))


def test_every_module_of_scenarios_is_asked() -> None:
    """A file that nobody asks would pass for ever."""
    written = {file.stem for file in SCENARIOS.glob("*.py") if scenarios_of(file.stem)}
    assert written - set(MODULES) == {"expectations", "run"}
