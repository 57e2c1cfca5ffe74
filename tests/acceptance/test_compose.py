"""The stack in containers, as docker.md tells to run it: used from this machine and from a container, killed, taken away."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.compose_stack import ComposeStack, compose_stack
from tests.acceptance.stack import eventually
from tests.docker.engine import NoDocker, docker, require_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLED_BY_THEMSELVES = (
    "registrar",
    "watcher",
    "projector-postgres",
    "projector-duckdb",
    "deployer",
    "webhooks",
    "gateway",
)
KILL_THE_PROCESS = "kill -9 $(cat /proc/1/task/1/children)"

TRAIN = """
import sys
import runtide
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
runtide.init(experiment="compose")
x, y = load_digits(return_X_y=True)
with runtide.start_run(name=sys.argv[1]) as run:
    for step in range(300):
        run.log_metric("loss", 1 / (step + 1), step=step)
    if sys.argv[2:] == ["model"]:
        logged = run.log_model(LogisticRegression(max_iter=50).fit(x, y), "classifier")
        runtide.register_model("compose-digits", logged)
        runtide.deploy("compose-endpoint", "compose-digits", follow="latest")
print(run.run_id)
"""

LOG_WHILE_KILLED = """
import runtide
runtide.init(experiment="compose")
with runtide.start_run(name="killed") as run:
    print(run.run_id, flush=True)
    for step in range(3000):
        run.log_metric("loss", step, step=step)
        if step % 1000 == 500:
            print(step, flush=True)
            input()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    try:
        require_engine("compose", "buildx")
        began = time.monotonic()
        with compose_stack(tmp_path_factory.mktemp("compose")) as running:
            print(f"built and up in {time.monotonic() - began:.0f} s")
            yield running
    except NoDocker as error:
        pytest.skip(str(error))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(TRAIN)
    return path


def count_points(stack: ComposeStack, run: str) -> list[int]:
    """Points of a run, and different steps among them, as the command line gets them from the gateway."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    sql = f"SELECT count(*), count(DISTINCT step) FROM metrics WHERE run_id = '{run}'"
    answer = httpx.post(f"{stack.gateway}/api/runtide/v1/sql", headers=headers, json={"sql": sql}, timeout=60)
    assert answer.is_success, answer.text
    [row] = answer.json()["rows"]
    return list(row)


def states(stack: ComposeStack) -> dict[str, tuple[str, str]]:
    """Each service's state and health."""
    lines = [json.loads(line) for line in stack.compose("ps", "--all", "--format", "json").splitlines()]
    return {line["Service"]: (line["State"], line["Health"]) for line in lines}


def test_everything_is_healthy_and_the_setup_has_ended(stack: ComposeStack) -> None:
    found = states(stack)
    assert found.pop("setup") == ("exited", "")
    assert set(found.values()) == {("running", "healthy")}
    assert set(found) == {"kafka", "postgres", *KILLED_BY_THEMSELVES}


def test_processes_are_nobody_special(stack: ComposeStack) -> None:
    for service in KILLED_BY_THEMSELVES:
        [found] = json.loads(docker("inspect", stack.container(service)))
        assert found["Config"]["User"] == "10001:10001"
        assert found["HostConfig"]["ReadonlyRootfs"]
        assert found["HostConfig"]["CapDrop"] == ["ALL"]
        shown = json.dumps(found)
        for secret in (stack.folder / "secrets").iterdir():
            assert secret.read_text() not in shown, f"{service} shows {secret.name}"


def test_a_run_of_this_machine_is_read_through_the_gateway_and_its_model_is_served(
    stack: ComposeStack, program: Path
) -> None:
    training = stack.python(program, "host", "model")
    printed, errors = training.communicate(timeout=180)
    assert training.returncode == 0, errors
    run = printed.split()[-1]
    eventually(lambda: count_points(stack, run) == [300, 300], "every point, once", 90)
    assert "host" in stack.runtide("runs")
    url = eventually(lambda: served_at(stack), "the endpoint", 120)
    assert url.startswith("http://127.0.0.1:")
    answer = httpx.post(f"{url}/invocations", json={"inputs": [[0.0] * 64]}, timeout=60)
    assert answer.is_success, answer.text
    assert len(answer.json()["predictions"]) == 1


def served_at(stack: ComposeStack) -> str:
    found: list[dict[str, Any]] = stack.get("/endpoints")["endpoints"]
    attempts = [deployment for endpoint in found for deployment in endpoint["deployments"]]
    assert not [one["reason"] for one in attempts if one["state"] == "failed"], attempts
    return next((str(one["url"]) for one in attempts if one["state"] == "serving"), "")


def test_a_run_of_a_container_on_the_stacks_network_arrives_too(stack: ComposeStack) -> None:
    network = f"--network={stack.project}_default"
    options = ("--rm", network, "--env=RUNTIDE_BROKER=kafka:19092", "--env=RUNTIDE_DATA=/tmp/runtide")
    printed = docker("run", *options, stack.variables["RUNTIDE_IMAGE"], "python", "-c", TRAIN, "container")
    run = printed.split()[-1]
    eventually(lambda: count_points(stack, run) == [300, 300], "every point, once", 90)


def test_the_gateway_answers_by_its_published_address_and_to_the_token_only(stack: ComposeStack) -> None:
    url, right = f"{stack.gateway}/api/runtide/v1/runs", {"Authorization": f"Bearer {stack.token}"}
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx.get(url, headers=right).status_code == 200
    assert httpx.get(stack.gateway, auth=("anyone", stack.token)).status_code == 200
    assert httpx.get(url, headers={**right, "Host": "evil.example"}).status_code == 403
    assert httpx.get(url, headers={**right, "Origin": "http://evil.example"}).status_code == 403
    assert httpx.get(url, headers={**right, "Origin": stack.gateway}).status_code == 200


def test_every_process_may_be_killed_while_a_run_is_logged(stack: ComposeStack, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LOG_WHILE_KILLED)
    training = stack.python(program)
    assert training.stdout is not None
    assert training.stdin is not None
    run = training.stdout.readline().strip()
    for kill in (kill_ours, kill_kafka, kill_postgres):
        assert training.stdout.readline().strip().isdecimal()
        kill(stack)
        training.stdin.write("\n")
        training.stdin.flush()
    _, errors = training.communicate(timeout=180)
    assert training.returncode == 0, errors
    eventually(lambda: stack.runtide("sync"), "what was not sent at the end is", 120)
    eventually(lambda: count_points(stack, run) == [3000, 3000], "every point, once", 180)
    whole = dict.fromkeys(("kafka", "postgres", *KILLED_BY_THEMSELVES), ("running", "healthy"))
    eventually(lambda: whole.items() <= states(stack).items(), f"all healthy again: {states(stack)}", 180)


def kill_ours(stack: ComposeStack) -> None:
    """From inside, as a crash: Docker starts a container again by itself unless it was told to end it."""
    for service in KILLED_BY_THEMSELVES:
        container = stack.container(service)
        before = restarts(container)
        docker("exec", container, "sh", "-c", KILL_THE_PROCESS, check=False)
        eventually(lambda c=container, b=before: restarts(c) > b, f"{service} is started again", 60)  # type: ignore[misc]  # bound now


def restarts(container: str) -> int:
    return int(docker("inspect", "--format", "{{.RestartCount}}", container))


def kill_kafka(stack: ComposeStack) -> None:
    docker("kill", stack.container("kafka"))
    stack.compose("start", "kafka")


def kill_postgres(stack: ComposeStack) -> None:
    docker("kill", stack.container("postgres"))
    stack.compose("start", "postgres")


def test_what_the_stack_holds_survives_that_its_containers_are_made_anew(stack: ComposeStack) -> None:
    before = stack.get("/runs")["runs"]
    assert before
    stack.compose("down", "--timeout", "30")
    assert states(stack) == {}
    stack.compose("up", "--detach", "--wait")
    assert stack.get("/runs")["runs"] == before


def test_the_files_of_the_image_are_not_the_users_to_change(stack: ComposeStack) -> None:
    image = stack.variables["RUNTIDE_IMAGE"]
    words = "test ! -w /opt/runtide && ! command -v gcc make cc && test ! -e /source && id -u"
    assert docker("run", "--rm", image, "sh", "-c", words).strip() == "10001"
