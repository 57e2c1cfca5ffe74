"""The main job, step by step. Each step returns once it has seen its effect, or raises ``DemoError`` with its name."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from rich.console import Console

import runtide
from runtide_deploy.demo.train import JOBS, Split, load_splits
from runtide_deploy.standalone.stack import Stack
from runtide_schemas.errors import FatalError, RuntideError

MODEL = "digits-classifier"
ENDPOINT = "digits"
DIGITS_ASKED = 100
DIGITS_SHOWN = 20
WANTED_RIGHT = 0.9
_DEADLINE_S = 150.0
_API = "/api/runtide/v1"

T = TypeVar("T")


class DemoError(FatalError):
    """A step of the demo did not do what it promises."""


class Refused(DemoError):
    """The gateway answered with an error: it may not know yet what it was asked for."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training process said at its end."""

    name: str
    run_id: str
    model_uri: str


def print_title(console: Console, title: str) -> None:
    """Print what a step is about to do."""
    console.print(f"[bold cyan]▸[/] {title}", highlight=False)


@asynccontextmanager
async def step(console: Console, title: str) -> AsyncIterator[None]:
    """Print a step and how long it took; name it in whatever goes wrong inside."""
    began = time.monotonic()
    print_title(console, title)
    try:
        yield
    except (RuntideError, httpx.HTTPError, OSError, TimeoutError) as error:
        raise DemoError(f"Step failed: {title}\n{type(error).__name__}: {error}") from error
    print_done(console, began)


def print_done(console: Console, began: float) -> None:
    """Print that a step is done, and how long it took since ``began`` (monotonic seconds)."""
    console.print(f"  [green]done[/] in {time.monotonic() - began:.1f} s\n", highlight=False)


class Demo:
    """The job over one running stack."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._http = httpx.AsyncClient(base_url=stack.plan.gateway_url, timeout=30)

    async def run(self) -> None:
        """Do the whole job, and print what there is to see."""
        async with self._http:
            async with step(self._console, f"Ask that endpoint '{ENDPOINT}' always serve the latest '{MODEL}'"):
                await self._wish()
            async with step(
                self._console, f"Train {len(JOBS)} models on scikit-learn's digits, in {len(JOBS)} processes at once"
            ):
                trained = await self._train()
            async with step(self._console, "Wait until every event of every run is in PostgreSQL and DuckDB"):
                await self._all_here(trained)
            async with step(self._console, "Register the best model"):
                version = await self._register(trained)
            async with step(self._console, f"Wait until the deployer serves version {version}"):
                url = await self._served(version)
            async with step(self._console, f"Ask {url}/invocations which digits it sees"):
                await self._score(url)
            await self._show(trained)

    async def _wish(self) -> None:
        await asyncio.to_thread(self._request_deployment)

    def _request_deployment(self) -> None:
        runtide.init(experiment="digits", data=self._stack.plan.directory.path)
        runtide.deploy(ENDPOINT, MODEL, follow="latest")

    async def _train(self) -> list[Trained]:
        tasks = [asyncio.create_task(self._train_one(name)) for name in JOBS]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _train_one(self, name: str) -> Trained:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runtide_deploy.demo.train", name),
            env=_environment(self._stack),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise DemoError(f"training of '{name}' ended with status {process.returncode}:\n{errors.decode()[-2000:]}")
        said = json.loads(out.decode().splitlines()[-1])
        self._console.print(f"  {name:<11} run {said['run_id']}", highlight=False)
        return Trained(name, said["run_id"], said["model_uri"])

    async def _all_here(self, trained: Sequence[Trained]) -> None:
        for one in trained:
            await self._until(lambda one=one: self._complete(one.run_id), f"run {one.run_id} complete in PostgreSQL")  # type: ignore[misc]
            await self._until(lambda one=one: self._in_duckdb(one.run_id), f"run {one.run_id} complete in DuckDB")  # type: ignore[misc]

    async def _complete(self, run_id: str) -> bool:
        return bool((await self._get(f"/runs/{run_id}/completeness"))["state"] == "complete")

    async def _in_duckdb(self, run_id: str) -> bool:
        state = (await self._get(f"/runs/{run_id}"))["run"]["metrics"]
        history = (await self._get("/compare", runs=run_id))["metrics"]
        points = {key: by_run[run_id]["point_count"] for key, by_run in history.items()}
        return bool(points) and points == {key: metric["point_count"] for key, metric in state.items()}

    async def _register(self, trained: Sequence[Trained]) -> int:
        names = {one.run_id: one for one in trained}
        best = await self._until(lambda: self._best(names), "the experiment 'digits' found by its name")
        one = names[best["info"]["run_id"]]
        self._console.print(
            f"  best by val_accuracy: [bold]{one.name}[/] ({best['metrics']['val_accuracy']['last_value']:.4f})",
            highlight=False,
        )
        version = await asyncio.to_thread(runtide.register_model, MODEL, one.model_uri, aliases=("champion",))
        self._console.print(f"  registered as {version.name} version {version.version}", highlight=False)
        return int(version.version)

    async def _best(self, names: Container[str]) -> Any:
        """Return the best of the runs; None while the experiment's name, which is the registrar's to give, is not folded."""
        found = await self._get("/runs", experiment="digits", order_by="metrics.val_accuracy DESC", page_size=1000)
        return next((run for run in found["runs"] if run["info"]["run_id"] in names), None)

    async def _served(self, version: int) -> str:
        async def url() -> str:
            endpoints = (await self._get("/endpoints"))["endpoints"]
            deployments = [d for e in endpoints if e["endpoint"] == ENDPOINT for d in e["deployments"]]
            serving = [d for d in deployments if d["state"] == "serving" and d["version"] == version]
            failed = [d["reason"] for d in deployments if d["state"] == "failed" and d["version"] == version]
            if failed and not serving:
                raise DemoError(f"the deployment failed: {failed[-1]}")
            return str(serving[-1]["url"]) if serving else ""

        return await self._until(url, f"endpoint '{ENDPOINT}' serving version {version}")

    async def _score(self, url: str) -> None:
        _, _, test = load_splits()
        asked = Split(test.pixels[:DIGITS_ASKED], test.digit[:DIGITS_ASKED])
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.post(f"{url}/invocations", json={"instances": asked.pixels.tolist()})
        answer.raise_for_status()
        predictions = [int(digit) for digit in answer.json()["predictions"]]
        right = sum(predicted == actual for predicted, actual in zip(predictions, asked.digit, strict=True))
        truth = asked.digit.tolist()
        for label, digits in (("it says", predictions), ("truth", truth)):
            self._console.print(f"  {label:<8} {' '.join(map(str, digits[:DIGITS_SHOWN]))} ...", highlight=False)
        self._console.print(f"  {right} of {DIGITS_ASKED} held-out digits are right", highlight=False)
        if predictions[0] != truth[0] or right < DIGITS_ASKED * WANTED_RIGHT:
            raise DemoError(f"the endpoint got {DIGITS_ASKED - right} of {DIGITS_ASKED} held-out digits wrong")

    async def _show(self, trained: Sequence[Trained]) -> None:
        from runtide_deploy.demo.report import print_report

        run_ids = [one.run_id for one in trained]
        comparison = await self._get("/compare", runs=",".join(run_ids))
        runs = [(await self._get(f"/runs/{run_id}"))["run"] for run_id in run_ids]
        endpoints = (await self._get("/endpoints"))["endpoints"]
        events = (await self._get(f"/runs/{run_ids[0]}/events"))["events"]
        print_report(self._console, comparison, runs, endpoints, events)

    async def _get(self, path: str, **parameters: Any) -> Any:
        answer = await self._http.get(_API + path, params=parameters)
        if answer.is_error:
            raise Refused(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    async def _until(self, condition: Callable[[], Awaitable[T]], what: str) -> T:
        last: object = None
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if value := await condition():
                    return value
            except (httpx.HTTPError, Refused) as error:
                last = error
            await asyncio.sleep(0.1)
        raise DemoError(f"not within {_DEADLINE_S:g} s: {what}" + (f" (last: {last})" if last else ""))


def _environment(stack: Stack) -> Mapping[str, str]:
    """Return what a training job needs: where the stack is, how to get in to a secured log, and patience on a busy machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_") or _is_access(key)}
    return {**kept, "RUNTIDE_DATA": str(stack.plan.directory.path), "RUNTIDE_EXIT_DEADLINE": f"{_DEADLINE_S:g}"}


def _is_access(name: str) -> bool:
    """Return whether a variable says how to get in, and not where: that is what ``RUNTIDE_DATA`` leads to."""
    return name.startswith(("RUNTIDE_KAFKA_", "RUNTIDE_SCHEMA_REGISTRY_")) and name != "RUNTIDE_KAFKA_BOOTSTRAP"
