"""compose.yaml stays true without Docker: what it calls exists, what it sets is read, and it holds no secret."""

import argparse
import functools
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

import runtide
import runtide_consumers
import runtide_deploy
import runtide_queries
from runtide.kafka import KafkaSettings
from runtide_consumers.metrics_port import MetricsSettings
from runtide_deploy.apache_kafka.artefacts import POM
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.service_table import Plan, service_table
from runtide_queries.server.routes import operations

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "RUNTIDE_IMAGE" in service["image"]}
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?-((?:[^${}]|\$(?!\{))*))?\}")


class Parsed(Exception):
    """The command line was understood."""


def with_defaults(text: str) -> str:
    """Interpolate as Compose does when no variable is set."""
    return VARIABLE.sub(lambda found: found[2] or "", text)


def command_of(service: dict[str, Any]) -> tuple[str, list[str]]:
    """The module that a service runs, and its arguments."""
    python, dash_m, module, *arguments = service["command"]
    assert (python, dash_m) == ("python", "-m")
    return module, arguments


def parse(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module's own parser read the arguments; raises what it raises."""
    parse_args = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, given: Any = None, namespace: Any = None) -> None:
        parse_args(parser, given, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    try:
        main = importlib.import_module(f"{module}.__main__").main
    except ModuleNotFoundError:
        main = importlib.import_module(module).main
    with pytest.raises(Parsed):
        main()


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_a_module_of_ours_that_understands_its_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, arguments = command_of(OURS[name])
    parse(module, arguments, monkeypatch)


@pytest.mark.parametrize("name", [name for name in OURS if name != "setup"])
def test_a_health_check_is_a_module_of_ours_that_understands_its_options(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, *command = OURS[name]["healthcheck"]["test"]
    assert kind == "CMD"
    monkeypatch.setenv("RUNTIDE_PROGRESS_FILE", "/tmp/progress")
    parse(*command_of({"command": command}), monkeypatch)


def test_an_option_that_there_is_not_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parse("runtide_consumers.duckdb", ["--no-such-option"], monkeypatch)
    assert "--no-such-option" in capsys.readouterr().err


def test_the_processes_are_those_of_runtide_up(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    plan = Plan(
        directory=directory,
        ports={"gateway": 1, "history": 2},
        kafka=KafkaSettings(),
        own_broker=False,
        kafka_option="",
        java=(),
        cluster=None,
        dsn="",
        reader_dsn="",
        partitions=8,
    )
    table = {service.name: list(service.command) for service in service_table(plan)}
    assert set(table) == set(OURS) - {"setup"}
    for name, command in table.items():
        module, arguments = command_of(OURS[name])
        assert module == command[2]
        options = {argument for argument in command if argument.startswith("--")}
        assert options <= {argument.partition("=")[0] for argument in arguments}, name


def settings_classes() -> Iterator[type[BaseSettings]]:
    for package in (runtide, runtide_consumers, runtide_queries, runtide_deploy):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith((".settings", "_settings", ".process", ".kafka", ".metrics_port")):
                for value in vars(importlib.import_module(module.name)).values():
                    if isinstance(value, type) and issubclass(value, BaseSettings):
                        yield value


@functools.cache
def known_variables() -> set[str]:
    names: set[str] = set()
    for settings in settings_classes():
        for name, field in settings.model_fields.items():
            if isinstance(field.validation_alias, AliasChoices):
                names |= {str(choice) for choice in field.validation_alias.choices}
            else:
                names.add(f"{settings.model_config.get('env_prefix', '')}{name}".upper())
    return names


@pytest.mark.parametrize("name", OURS)
def test_a_variable_is_one_that_some_settings_read(name: str) -> None:
    assert set(OURS[name]["environment"]) <= known_variables()


@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_is_a_file_that_the_service_is_given(name: str) -> None:
    service = SERVICES[name]
    given = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
    used = {str(value) for value in service["environment"].values()}
    used |= {argument.partition("=")[2] for argument in service.get("command", [])}
    assert {value for value in used if value.startswith("/run/secrets/")} == given
    for variable, value in service["environment"].items():
        if re.search("PASSWORD|TOKEN|SECRET", variable):
            assert variable.endswith("_FILE")
            assert str(value).startswith("/run/secrets/")
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{variable} holds a password"


def test_every_secret_is_made_by_the_script() -> None:
    (names,) = re.findall(r"^for name in (.*); do$", (DEPLOY / "make-secrets.sh").read_text(), re.MULTILINE)
    assert set(names.split()) == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert with_defaults(port).startswith("127.0.0.1:"), port


def test_the_metrics_of_every_projector_are_scraped_inside_the_network_and_published_nowhere() -> None:
    projectors = {name for name, service in OURS.items() if "runtide_consumers.project" in service.get("command", [])}
    (guide,) = re.findall(
        r"^```yaml\n(scrape_configs:.*?)^```", (DEPLOY / "docker.md").read_text(), re.MULTILINE | re.DOTALL
    )
    jobs = yaml.safe_load(guide)["scrape_configs"]
    scraped = {target for job in jobs for static in job["static_configs"] for target in static["targets"]}
    assert len(projectors) == 2
    for name in projectors:
        told = OURS[name]["environment"]
        settings = MetricsSettings(port=told["RUNTIDE_METRICS_PORT"], host=told["RUNTIDE_METRICS_HOST"])
        assert settings.host == "0.0.0.0", "loopback is the container's own"
        assert f"{name}:{settings.port}" in scraped
        assert "ports" not in OURS[name]
    (port,) = (argument for argument in OURS["gateway"]["command"] if argument.startswith("--port="))
    (gateway,) = (
        job for job in jobs if job["static_configs"][0]["targets"] == [f"gateway:{port.removeprefix('--port=')}"]
    )
    assert gateway["metrics_path"] in {route.path for route in operations.ROUTES}


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "setup"])
def test_a_process_comes_back_and_says_how_it_is(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


def test_what_a_service_waits_for_is_there() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            ends = SERVICES[name]["restart"] == "no"
            assert condition == {"condition": "service_completed_successfully" if ends else "service_healthy"}


def test_a_folder_that_is_kept_belongs_to_the_images_user() -> None:
    (made,) = re.findall(r"install -d -o runtide -g runtide -m 0700 (.*)$", dockerfile(), re.MULTILINE)
    kept = [volume for service in OURS.values() for volume in service.get("volumes", []) if isinstance(volume, str)]
    assert kept
    for volume in kept:
        assert volume.split(":")[1] in made.split()


def test_kafka_is_the_version_that_is_tested() -> None:
    (version,) = (found.text for found in ElementTree.parse(POM).iter() if found.tag.endswith("kafka.version"))
    assert with_defaults(SERVICES["kafka"]["image"]) == f"apache/kafka:{version}"


def test_the_base_image_is_the_dockerfiles() -> None:
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", dockerfile(), re.MULTILINE)
    assert with_defaults(SERVICES["setup"]["build"]["args"]["PYTHON_IMAGE"]) == base


def test_the_example_names_every_variable_with_its_default() -> None:
    lines = (DEPLOY / "compose.env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert example.pop("COMPOSE_PROFILES") == ""
    used = {name: default or "" for name, default in VARIABLE.findall(TEXT)}
    assert example == used


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()
