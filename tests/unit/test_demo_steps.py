"""The demo waits for what is not folded yet, and ends at once by what will not become better."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from rich.console import Console

from runtide_deploy.demo.steps import Demo, DemoError, Trained
from runtide_deploy.standalone.stack import Stack

RUN = "a" * 32


def demo(answer: Callable[[httpx.Request], httpx.Response]) -> Demo:
    """A demo whose gateway answers so."""
    stack = SimpleNamespace(plan=SimpleNamespace(gateway_url="http://gateway"))
    made = Demo(cast("Stack", stack), Console(quiet=True))
    made._http = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
    return made


async def test_a_run_that_the_stores_do_not_know_yet_is_waited_for() -> None:
    asked: list[str] = []
    known: dict[str, Any] = {
        f"/runs/{RUN}/completeness": {"state": "complete"},
        f"/runs/{RUN}": {"run": {"metrics": {"loss": {"point_count": 3}}}},
        "/compare": {"metrics": {"loss": {RUN: {"point_count": 3}}}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/runtide/v1")
        asked.append(path)
        return httpx.Response(200, json=known[path]) if asked.count(path) > 1 else httpx.Response(404)

    await demo(answer)._all_here([Trained("mlp", RUN, "file:///model")])
    assert all(asked.count(path) > 1 for path in known)


async def test_an_experiment_whose_name_is_not_folded_yet_is_waited_for() -> None:
    answers = iter([httpx.Response(404), httpx.Response(200, json={"runs": []})])
    best = {"info": {"run_id": RUN}}

    def answer(_: httpx.Request) -> httpx.Response:
        return next(answers, httpx.Response(200, json={"runs": [best]}))

    one = demo(answer)
    assert await one._until(lambda: one._best({RUN}), "the best run") == best


async def test_a_deployment_that_failed_is_not_waited_for() -> None:
    failed = {"state": "failed", "version": 1, "reason": "no such model"}
    found = {"endpoints": [{"endpoint": "digits", "deployments": [failed]}]}
    with pytest.raises(DemoError, match="no such model"):
        await demo(lambda _: httpx.Response(200, json=found))._served(1)
