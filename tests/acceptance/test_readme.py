"""README tells the truth: its script runs, and every command in it works as written."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.stack import RunningStack, eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command in the README's shell blocks."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def trained_run(stack: RunningStack) -> str:
    """The run that README's script makes."""
    (script,) = blocks("python")
    process = stack.python(script)
    _, errors = process.communicate(timeout=170)
    assert process.returncode == 0, errors
    found = eventually(
        lambda: stack.sql("SELECT run_id FROM runs WHERE name = 'mlp' AND status = 'FINISHED'"), "run in DuckDB"
    )
    run_id = str(found[0]["run_id"])
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", "the run in PostgreSQL")
    return run_id


def _is_a_make_target(command: str, stack: RunningStack, run_id: str) -> str:
    done = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def _names_extras_that_there_are(command: str, stack: RunningStack, run_id: str) -> str:
    """The installation itself is the wheel test's; here, that what README writes names real extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"\[(.*)\]", command)
    assert set(named.split(",")) <= set(extras), command
    return command


def _is_running(command: str, stack: RunningStack, run_id: str) -> str:
    assert stack.process.poll() is None
    return str(stack.process.args)


def _runs(command: str, stack: RunningStack, run_id: str) -> str:
    return stack.runtide(*shlex.split(command.replace("RUN", run_id))[1:]).stdout


def _names_a_file_that_there_is(command: str, stack: RunningStack, run_id: str) -> str:
    """With Docker is test_compose.py's; here, that the files are there."""
    (file,) = re.findall(r"\bdeploy/\S+", command)
    assert (ROOT / file).exists()
    return command


def _names_what_compose_publishes(command: str, stack: RunningStack, run_id: str) -> str:
    """With Docker is test_compose.py's; here, that addresses and secrets are those of compose.yaml."""
    compose = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    for port in re.findall(r"127\.0\.0\.1:(\d+)", command):
        assert f":-{port}}}:{port}" in compose
    for secret in re.findall(r"deploy/secrets/(\w+)", command):
        assert f"\n  {secret}:" in compose
    return command


CHECKS: dict[str, tuple[Callable[[str, RunningStack, str], str], str]] = {
    "make demo": (_is_a_make_target, "runtide demo"),
    "make test": (_is_a_make_target, "pytest"),
    "pip install": (_names_extras_that_there_are, "server,sklearn"),
    "runtide up": (_is_running, "up"),
    "runtide runs": (_runs, "mlp"),
    "runtide show": (_runs, "val_accuracy"),
    "runtide check": (_runs, "complete"),
    "runtide log": (_runs, "RunStarted"),
    "runtide sql": (_runs, "best"),
    "runtide sync": (_runs, "othing"),
    "sh deploy": (_names_a_file_that_there_is, "deploy"),
    "docker compose": (_names_a_file_that_there_is, "up"),
    "RUNTIDE_BROKER": (_names_what_compose_publishes, "python"),
    "RUNTIDE_GATEWAY": (_names_what_compose_publishes, "runtide runs"),
}


@pytest.mark.parametrize("command", commands())
def test_command_works_as_written(command: str, stack: RunningStack, trained_run: str) -> None:
    (name,) = [name for name in CHECKS if command.startswith(name)]
    check, expected = CHECKS[name]
    assert expected in check(command, stack, trained_run)


def test_the_example_is_short() -> None:
    (script,) = blocks("python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 15


def test_every_file_it_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
