"""What a person sees: the gateway's pages in a real browser, wide and narrow, light and dark."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.browser import Browser, chromium
from tests.acceptance.stack import RunningStack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = "<img src=x onerror=document.title='ran'><script>document.title='ran'</script>"
SIZES = [(1280, False), (1280, True), (400, False), (400, True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A window."""
    with chromium() as browser:
        yield browser


def told(stack: RunningStack, call: str, **fields: Any) -> Any:
    """Make a call of MLflow's API and return its answer."""
    answer = httpx.post(f"{stack.file.gateway}/api/2.0/mlflow/{call}", json=fields, timeout=60, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def run(stack: RunningStack) -> dict[str, Any]:
    """A run with something of everything that pages show, and a model registered from it."""
    experiment = told(stack, "experiments/create", name="browsed")["experiment_id"]
    made = told(stack, "runs/create", experiment_id=experiment, run_name=HOSTILE, start_time=1_700_000_000_000)["run"]
    info: dict[str, Any] = made["info"]
    points = [
        {"key": f"loss/{key}", "value": step / 7, "timestamp": step, "step": step}
        for step in range(9)
        for key in "abcdef"
    ]
    params = [{"key": f"param{place}", "value": "long " * 40} for place in range(4)]
    told(
        stack,
        "runs/log-batch",
        run_id=info["run_id"],
        metrics=points,
        params=params,
        tags=[{"key": "t", "value": HOSTILE}],
    )
    kept = f"{stack.file.gateway}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{info['run_id']}/artifacts/a.txt"
    assert httpx.put(kept, content=b"kept", timeout=60, trust_env=False).is_success
    told(stack, "registered-models/create", name="browsed model")
    told(stack, "model-versions/create", name="browsed model", source=info["artifact_uri"], run_id=info["run_id"])
    told(stack, "runs/update", run_id=info["run_id"], status="FINISHED", end_time=1_700_000_100_000)
    return info


def pages(run: dict[str, Any]) -> list[str]:
    """Every kind of page."""
    of_the_run = [f"/runs/{run['run_id']}", f"/runs/{run['run_id']}/events"]
    return ["/", *of_the_run, "/models", "/models/browsed%20model", "/endpoints", "/status", "/api"]


def test_pages_fit_the_window_and_nothing_on_them_is_refused(
    stack: RunningStack, browser: Browser, run: dict[str, Any]
) -> None:
    """Wide tables scroll by themselves; the page does not."""
    browser.complaints()
    for path in pages(run):
        for width, dark in SIZES:
            browser.look(width=width, dark=dark)
            browser.open(f"{stack.file.gateway}{path}")
            wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, f"{path} is {wide} pixels wider than its {width}"
            assert browser.run("return document.title") != "ran", path
        assert browser.complaints() == [], path


def test_the_system_says_light_or_dark(stack: RunningStack, browser: Browser) -> None:
    seen = []
    for dark in (False, True):
        browser.look(width=1280, dark=dark)
        browser.open(stack.file.gateway)
        seen.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    light, dark_ground = ([int(part) for part in one.strip("rgb()").split(",")] for one in seen)
    assert min(light) > 200
    assert max(dark_ground) < 60


def test_the_links_that_mlflow_prints_lead_to_what_they_name(
    stack: RunningStack, browser: Browser, run: dict[str, Any]
) -> None:
    gateway, experiment, run_id = stack.file.gateway, run["experiment_id"], run["run_id"]
    places = {
        f"/#/experiments/{experiment}/runs/{run_id}": f"/runs/{run_id}",
        f"/#/experiments/{experiment}/runs/{run_id}/artifacts/a.txt": f"/runs/{run_id}",
        f"/#/experiments/{experiment}": f"/?experiment={experiment}",
        f"/#/experiments/{experiment}/models/m-1": f"/?experiment={experiment}",
        "/#/models/browsed%20model/versions/1": "/models/browsed%20model",
        "/#/models": "/models",
        "/#/nothing": "/#/nothing",
    }
    for link, place in places.items():
        browser.open(f"{gateway}{link}")
        assert browser.address() == f"{gateway}{place}", link
    browser.open(f"{gateway}/")
    browser.run(f"location.hash = '#/experiments/{experiment}'")
    eventually(
        lambda: browser.address() == f"{gateway}/?experiment={experiment}", "a link that is typed in is followed"
    )
    assert f"/runs/{run_id}" in browser.run("return [...document.links].map(link => link.pathname)")


def test_a_file_is_a_click_away(stack: RunningStack, browser: Browser, run: dict[str, Any]) -> None:
    browser.look(width=1280)
    browser.open(f"{stack.file.gateway}/runs/{run['run_id']}")
    (link,) = browser.run("return [...document.links].filter(link => link.text === 'a.txt').map(link => link.href)")
    answer = httpx.get(link, timeout=60, trust_env=False)
    assert (answer.content, answer.headers["content-disposition"].partition(";")[0]) == (b"kept", "attachment")
    browser.click("nav a[href='/models']")
    assert browser.address() == f"{stack.file.gateway}/models"
