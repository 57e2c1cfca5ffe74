"""The first page: runs, filtered and ordered as asked, with the metrics and params that tell them apart."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query
from starlette.responses import Response

from runtide_queries.experiments import Experiment, find_experiment, list_experiments
from runtide_queries.runs import Run
from runtide_queries.search import RunPage, RunSearch, search_runs
from runtide_queries.server.pages.formats import NOTHING, duration, moment, number
from runtide_queries.server.pages.html import Markup, Node, element, join
from runtide_queries.server.pages.layout import page, state, table
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest

METRIC_COLUMNS = 5
PARAM_CHIPS = 3
_CHIP_CHARACTERS = 200
"""What a label shows of a value at most, by its title too: values may have thousands of characters, and rows are many."""
_PAGE_SIZE = 50
_NO_RUNS = "No runs here yet. Start one with runtide.start_run(), or loosen the filter."


async def runs_page(
    stores: AskStores,
    experiment: str = "",
    filter: str = "",  # noqa: A002  # the API's name of the parameter
    order_by: str = "",
    page_token: Annotated[str, Query(max_length=10_000)] = "",
) -> Response:
    """List runs, the newest first unless told otherwise."""
    asked = {"experiment": experiment, "filter": filter, "order_by": order_by}
    experiments = (await list_experiments(stores.postgres)).experiments
    note, found = None, RunPage(runs=(), next_page_token="")
    try:
        ids = ((await find_experiment(stores.postgres, experiment)).experiment_id,) if experiment else ()
        search = RunSearch(
            experiment_ids=ids,
            filter=filter,
            order_by=(order_by,) if order_by else (),
            page_size=_PAGE_SIZE,
            page_token=page_token,
        )
        found = await search_runs(stores.postgres, search)
    except InvalidRequest as error:
        note = element("p", str(error), class_="note bad")
    return page(
        "Runs",
        "Runs",
        element("h1", "Runs"),
        element("p", "Folded from the log into PostgreSQL. Newest first.", class_="sub"),
        _filters(asked, experiments),
        note,
        _table(found.runs, asked),
        _next(found, asked),
        status=200 if note is None else 400,
        code=_links_of_mlflow(),
    )


@cache
def _links_of_mlflow() -> str:
    """Return the script that follows links whose fragment names a page of MLflow's own interface."""
    return files("runtide_queries").joinpath("server", "pages", "mlflow_links.js").read_text("utf-8")


def _filters(asked: dict[str, str], experiments: Sequence[Experiment]) -> Markup:
    chosen = asked["experiment"]
    options = [element("option", "all experiments", value="")] + [
        element("option", one.name, value=one.experiment_id, selected=chosen in {one.experiment_id, one.name})
        for one in experiments
    ]
    example = "metrics.val_loss < 0.5 AND params.optimizer = 'adam'"
    return element(
        "form",
        element("label", "Experiment", element("select", *options, name="experiment")),
        element(
            "label",
            "Filter",
            element("input", name="filter", value=asked["filter"], placeholder=example),
            class_="grow",
        ),
        element(
            "label", "Order by", element("input", name="order_by", value=asked["order_by"], placeholder="metrics.loss")
        ),
        element("button", "Show"),
        method="get",
        action="/",
        class_="filters",
    )


def _table(runs: Sequence[Run], asked: dict[str, str]) -> Markup:
    keys = [key for key, _ in sorted(_counted(runs).items(), key=lambda pair: (-pair[1], pair[0]))[:METRIC_COLUMNS]]
    telling = _telling_params(runs)
    head: list[Node] = ["Run", "Experiment", "Status", "Started (UTC)", "Duration"]
    head += [element("a", key, href=_sorted_by(key, asked), title="order by this metric") for key in keys]
    head.append("Params")
    rows = [_row(run, keys, telling) for run in runs]
    return table(head, rows, numbers=range(4, 5 + len(keys)), empty=_NO_RUNS)


def _row(run: Run, keys: Sequence[str], telling: Sequence[str]) -> list[Node]:
    info = run.info
    experiment = info.experiment_id or info.experiment_name or ""
    link = element(
        "a",
        info.name or info.run_id,
        href=f"/runs/{info.run_id}",
        class_="strong",
        title=info.run_id,
        # MLflow's clients print a link whose fragment says this: where no script runs, it leads to the row.
        id=f"/experiments/{info.experiment_id}/runs/{info.run_id}",
    )
    params = [key for key in telling if key in run.params][:PARAM_CHIPS]
    return [
        link,
        element("a", info.experiment_name or experiment, href=f"/?{urlencode({'experiment': experiment})}"),
        state(info.status),
        moment(info.start_time),
        duration(info.start_time, info.end_time),
        *(_metric(run, key) for key in keys),
        element("div", *(chip(key, run.params[key]) for key in params), class_="chips"),
    ]


def _metric(run: Run, key: str) -> Node:
    metric = run.metrics.get(key)
    if metric is None:
        return element("span", NOTHING, class_="dim")
    bounds = f"{number(metric.min_value)} to {number(metric.max_value)}"
    told = f"last of {metric.point_count:,} points, from {bounds}"
    within = element("span", bounds, class_="span") if metric.point_count > 1 and metric.min_value is not None else None
    return element("span", number(metric.last_value), within, title=told)


def chip(key: str, value: str) -> Markup:
    """Return a param as a small label; of a long value the beginning."""
    if len(value) > _CHIP_CHARACTERS:
        value = value[:_CHIP_CHARACTERS] + "…"
    return element("span", element("b", f"{key} "), value, class_="chip", title=f"{key} = {value}")


def _counted(runs: Sequence[Run]) -> Counter[str]:
    return Counter(key for run in runs for key in run.metrics)


def _telling_params(runs: Sequence[Run]) -> list[str]:
    """Return the params' keys: those that differ between the runs first, of these the ones that most runs have."""
    having = Counter(key for run in runs for key in run.params)
    differing = {key for key in having if len({run.params.get(key) for run in runs}) > 1}
    return sorted(having, key=lambda key: (key not in differing, -having[key], key))


def _sorted_by(key: str, asked: dict[str, str]) -> str:
    down, up = f'metrics."{key}" DESC', f'metrics."{key}" ASC'
    return "/?" + urlencode({**asked, "order_by": up if asked["order_by"] == down else down})


def _next(found: RunPage, asked: dict[str, str]) -> Node:
    if not found.next_page_token:
        return None
    address = "/?" + urlencode({**asked, "page_token": found.next_page_token})
    return element("p", element("a", join(["Next page →"]), href=address), class_="pages")


ROUTES = (Route("GET", "/", runs_page, Policy.READ, "Page: runs"),)
