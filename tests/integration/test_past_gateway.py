"""Moments of the past over the API and on the command line: a week in the life of a model, and what people ask about it."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from runtide.kafka import KafkaSettings
from runtide_deploy.cli.main import app
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events import catalog, deployments, logged_models, runs
from tests.integration.gateway_stack import (
    API,
    FINISHED,
    GatewayStack,
    LogWriter,
    log_writer,
    points,
    running_gateway_stack,
)
from tests.integration.service_processes import with_topics
from tests.postgres import PostgresServer

WRITER = "1" * 32
MONDAY = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
WEDNESDAY = MONDAY + 48 * HOUR
ON_TUESDAY = "2026-01-06T12:00:00Z"
MODEL = "digits-model"
LOGGED = "m-" + "5" * 32


class Week:
    """Publishes events at times of that week; records have the times of their events."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log

    async def says(self, at: int, body: Any, writer: str = "e" * 32, **about: str) -> str:
        """Publish an event and return its id."""
        return (await self._log.publish(body, writer, at=at, timestamp_ms=at, **about)).id  # type: ignore[arg-type]  # texts

    async def happens(self) -> None:
        """Tell what happened on Monday, and what on Wednesday."""
        await self._monday(MONDAY)
        await self._wednesday(WEDNESDAY)

    async def _monday(self, at: int) -> None:
        answer = self._log.answer
        created = catalog.ExperimentCreated(answer=answer(), experiment_id="1", name="digits", at=at)
        await self.says(at, created, actor="ada")
        started = runs.RunStarted(run_id=FINISHED, name="first", experiment_id="1", user="ada", start_time=at)
        await self.says(at + 1, started, WRITER)
        await self.says(at + 2, runs.ParamsLogged(run_id=FINISHED, params={"rate": "0.1"}), WRITER)
        await self.says(at + 3, points(FINISHED, "loss", [1.0, 0.5]), WRITER)
        made = logged_models.LoggedModelCreated(
            run_id=FINISHED, model_id=LOGGED, name="net", source_run_id=FINISHED, params={"depth": "3"}, at=at + 3
        )
        await self.says(at + 3, made, WRITER)
        await self._registered(at + 4, 1, "ada")
        moved = catalog.AliasMoved(answer=answer(), name=MODEL, alias="champion", version=1, at=at + 6)
        await self.says(at + 6, moved, actor="ada", cause="request-of-ada")
        wanted = catalog.DeploymentRequested(
            answer=answer(), endpoint="digits", model=MODEL, follow="alias", alias="champion", generation=1, at=at + 7
        )
        await self.says(at + 7, wanted, actor="ada")

    async def _wednesday(self, at: int) -> None:
        await self._registered(at, 2, "ada")
        moved = catalog.AliasMoved(
            answer=self._log.answer(), name=MODEL, alias="champion", version=2, previous_version=1, at=at + 2
        )
        cause = await self.says(at + 2, moved, actor="bob", cause="request-of-bob")
        about: dict[str, Any] = {"deployment_id": "dep-1", "endpoint": "digits", "model": MODEL, "version": 2}
        began = deployments.DeploymentStarted(**about, source="s", target="local", generation=1, at=at + 3)
        await self.says(at + 3, began, actor="deployer", cause=cause)
        await self.says(at + 4, points(FINISHED, "loss", [0.1], first=2), WRITER)
        told = logged_models.LoggedModelTagsSet(run_id=FINISHED, model_id=LOGGED, tags={"good": "yes"}, at=at + 4)
        await self.says(at + 4, told, WRITER)
        await self.says(at + 5, runs.TagsSet(run_id=FINISHED, tags={"reviewed": "yes"}), WRITER, actor="bob")
        await self.says(at + 6, runs.RunEnded(run_id=FINISHED, status="FINISHED", end_time=at + 6), WRITER)

    async def _registered(self, at: int, version: int, actor: str) -> None:
        body = catalog.ModelVersionRegistered(
            answer=self._log.answer(), name=MODEL, version=version, source=f"runs:/{FINISHED}/model",
            run_id=FINISHED, model_created=version == 1, at=at,
        )  # fmt: skip
        await self.says(at, body, actor=actor)


async def _filled(bootstrap: str) -> KafkaSettings:
    settings = await with_topics(bootstrap, spread=2)
    async with log_writer(settings) as log:
        await Week(log).happens()
    return settings


def _in_own_loop(bootstrap: str) -> KafkaSettings:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, _filled(bootstrap)).result()


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    folder = tmp_path_factory.mktemp("past")
    with postgres_server.database() as dsn, running_gateway_stack(folder, dsn, _in_own_loop) as stack:
        yield stack


def runtide(stack: GatewayStack, *arguments: str) -> str:
    """Run a command of the command line and return what it prints."""
    result = CliRunner().invoke(app, [*arguments, "--gateway", stack.gateway.url], env={"COLUMNS": "250"})
    if result.exception is not None:
        raise result.exception
    return result.output


def told(stack: GatewayStack, *arguments: str) -> Any:
    """Run a command and return its JSON."""
    return json.loads(runtide(stack, *arguments, "--json"))


def test_which_version_was_champion_on_tuesday_who_moved_it_and_why(stack: GatewayStack) -> None:
    on_tuesday = told(stack, "show", f"model/{MODEL}", "--at", ON_TUESDAY)
    assert on_tuesday["model"]["aliases"] == {"champion": 1}
    assert told(stack, "show", f"model/{MODEL}")["model"]["aliases"] == {"champion": 2}
    moves = [event for event in told(stack, "log", f"model/{MODEL}")["events"] if event["type"] == "AliasMoved"]
    assert [(move["actor"], move["summary"], move["because"]["event_id"]) for move in moves] == [
        ("ada", "@champion -> version 1", "request-of-ada"),
        ("bob", "@champion -> version 2 (was 1)", "request-of-bob"),
    ]
    (line,) = [line for line in runtide(stack, "log", f"model/{MODEL}").splitlines() if "version 2 (was 1)" in line]
    assert line.split()[2:5] == ["AliasMoved", "bob", "catalog-0@5"] and line.rstrip().endswith(
        "request request-of-bob"
    )
    assert "@champion" in runtide(stack, "show", f"model/{MODEL}", "--at", ON_TUESDAY)


def test_a_difference_names_the_event_that_made_it(stack: GatewayStack) -> None:
    found = told(stack, "diff", f"model/{MODEL}", "--from", ON_TUESDAY)["differences"]
    changes = {one["what"]: one for one in found}
    alias = changes["aliases.champion"]
    assert (alias["change"], alias["before"], alias["after"]) == ("changed", 1, 2)
    assert (alias["event"]["type"], alias["event"]["actor"]) == ("AliasMoved", "bob")
    assert changes["versions.2.source"]["change"] == "added"
    assert changes["versions.2.source"]["event"]["type"] == "ModelVersionRegistered"
    assert not [what for what in changes if what.startswith("versions.1")]
    of_run = {one["what"]: one for one in told(stack, "diff", FINISHED, "--from", ON_TUESDAY)["differences"]}
    assert {what: one["event"] and one["event"]["type"] for what, one in of_run.items()} == {
        "status": "RunEnded",
        "end_time": "RunEnded",
        "tags.reviewed": "TagsSet",
        **dict.fromkeys(
            ["metrics.loss.last_value", "metrics.loss.last_step", "metrics.loss.min_value", "metrics.loss.point_count"]
        ),
    }


def test_a_run_and_the_search_for_it_as_of_tuesday(stack: GatewayStack) -> None:
    then = told(stack, "show", FINISHED[:8], "--at", ON_TUESDAY)["run"]
    loss = then["metrics"]["loss"]
    assert (then["info"]["status"], loss["last_value"], loss["point_count"], then["tags"]) == ("RUNNING", 0.5, 2, {})
    low = ("--filter", "metrics.loss < 0.2", "--experiment", "digits")
    assert told(stack, "runs", *low, "--at", ON_TUESDAY) == []
    (found,) = told(stack, "runs", *low)
    assert found["metrics"]["loss"]["last_value"] == 0.1
    (found,) = told(stack, "runs", "--filter", "metrics.loss < 0.7 AND status = 'RUNNING'", "--at", ON_TUESDAY)
    assert {name: found[name] for name in then} == then


def test_a_logged_model_as_of_tuesday(stack: GatewayStack) -> None:
    then, now = (stack.get(f"/logged-models/{LOGGED}", at=at) for at in (ON_TUESDAY, ""))
    assert (then["tags"], then["params"], now["tags"]) == ({}, {"depth": "3"}, {"good": "yes"})
    tagged = "tags.good = 'yes'"
    assert stack.get("/logged-models", filter=tagged, at=ON_TUESDAY)["models"] == []
    (found,) = stack.get("/logged-models", filter=tagged, experiment_ids=["1"])["models"]
    assert found == now


def test_a_printed_position_asks_for_the_very_same_state(stack: GatewayStack) -> None:
    for path in (
        f"/runs/{FINISHED}",
        "/runs",
        f"/models/{MODEL}",
        "/models",
        "/experiments",
        "/experiments/1",
        "/endpoints",
    ):
        then = stack.get(path, at=ON_TUESDAY)
        position = then.pop("as_of")["position"]
        again = stack.get(path, at=position)
        assert again.pop("as_of") == {"asked": position, "position": position}
        assert again == then
        now = stack.get(path, at="now")
        assert now.pop("as_of")["asked"] == "now"
        assert now == stack.get(path)


def test_an_event_of_the_log_can_be_named(stack: GatewayStack) -> None:
    events = stack.get(f"/models/{MODEL}/history")["events"]
    places = [f"catalog-{event['partition']}@{event['offset']}" for event in events if event["type"] == "AliasMoved"]
    champions = [stack.get(f"/models/{MODEL}", at=place)["model"]["aliases"] for place in places]
    assert champions == [{"champion": 2}, {"champion": 1}]
    assert stack.get(f"/runs/{FINISHED}", at=places[0])["run"]["info"]["status"] == "RUNNING"  # it ended later


def test_history_comes_in_pages_and_says_why(stack: GatewayStack) -> None:
    found: list[Any] = []
    token, at = "", "now"
    while token or not found:
        page = stack.get("/endpoints/digits/history", page_size=1, page_token=token, at=at)
        found += page["events"]
        token, at = page["next_page_token"], page["as_of"]["position"]
    assert [event["type"] for event in found] == ["DeploymentStarted", "DeploymentRequested"]
    because = found[0]["because"]
    assert (because["type"], because["kind"], because["entity"], because["actor"]) == (
        "AliasMoved",
        "model",
        MODEL,
        "bob",
    )
    assert "AliasMoved of model/digits-model by bob" in runtide(stack, "log", "endpoint/digits")
    assert "digits" in runtide(stack, "show", "endpoint/digits", "--at", ON_TUESDAY)
    assert [event["type"] for event in told(stack, "log", "experiment/digits")["events"]] == ["ExperimentCreated"]
    assert [event["type"] for event in told(stack, "log", FINISHED, "--limit", "2")["events"]] == [
        "TagsSet",
        "RunEnded",
    ]
    assert "points of loss" in runtide(stack, "log", FINISHED, "--metrics")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("soon", "is no moment"),
        ("2026-01-06T12:00:00", "has no time zone"),
        ("2199-01-01T00:00:00Z", "is in the future"),
        ("2026-01-01T00:00:00Z", "before the log begins; its first record is of 2026-01-05T09:00:00"),
        ("1960-01-01T00:00:00Z", "is before 1970"),
        ("catalog:0@99", "is not in the log yet: its last record is 5"),
        ("catalog:7@0", "has no partition 7"),
        (f"catalog:0@{10**17}", "is not in the log yet: its last record is 5"),
        ("tables:0@1", "is no position"),
        ("runs:0@1,runs:0@2", "is named twice"),
        ("runs:0@1," * 3_000, "20000 characters"),
    ],
)
def test_what_is_no_moment_is_refused_with_what_to_do(stack: GatewayStack, at: str, message: str) -> None:
    for path in ("/runs", f"/models/{MODEL}/history"):
        reply = stack.client.get(API + path, params={"at": at})
        assert reply.status_code == 400 and message in reply.json()["message"], reply.text


def test_what_was_not_there_yet_is_not_found(stack: GatewayStack) -> None:
    first = "catalog:0@0"  # the experiment, and nothing of the model yet
    with pytest.raises(InvalidRequest, match="had said nothing about model 'digits-model' by catalog:0@0"):
        runtide(stack, "show", f"model/{MODEL}", "--at", first)
    with pytest.raises(
        InvalidRequest, match=r"nothing about run 'a+' by runs:0@-1; check the name, or ask for a later"
    ):
        runtide(stack, "show", "a" * 32, "--at", "runs:0@-1")
    with pytest.raises(InvalidRequest, match="had said nothing about model 'digits-model' by catalog:0@0"):
        runtide(stack, "log", f"model/{MODEL}", "--at", first)
    with pytest.raises(NotFound, match=r"No endpoint 'digits' is wanted then\."):
        runtide(stack, "show", "endpoint/digits", "--at", first)
    with pytest.raises(InvalidRequest, match="give the earlier moment as from"):
        runtide(stack, "diff", f"model/{MODEL}", "--from", "now", "--to", ON_TUESDAY)
