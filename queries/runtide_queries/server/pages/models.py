"""The pages of registered models and of endpoints."""

from urllib.parse import quote

from starlette.responses import Response

from runtide_queries.deployments import Endpoint, list_endpoints
from runtide_queries.models import ModelVersion, RegisteredModelDetail, get_registered_model, list_registered_models
from runtide_queries.server.pages.formats import NOTHING, moment
from runtide_queries.server.pages.html import Markup, Node, element
from runtide_queries.server.pages.layout import page, section, state, table
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.stores import AskStores


async def models_page(stores: AskStores, page_token: str = "") -> Response:
    """List registered models."""
    found = await list_registered_models(stores.postgres, page_token=page_token)
    rows = [
        (
            _link(model.name),
            model.latest_version,
            element("div", *(_alias(alias, version) for alias, version in model.aliases.items()), class_="chips"),
            element("div", model.description, class_="wide"),
            moment(model.updated_at),
        )
        for model in found.models
    ]
    head = ("Model", "Latest", "Aliases", "Description", "Changed (UTC)")
    empty = "No registered models yet. Register one with runtide.register_model(name, model_uri)."
    more = element("a", "Next page →", href=f"/models?page_token={found.next_page_token}")
    return page(
        "Models",
        "Models",
        element("h1", "Registered models"),
        element("p", "Names and version numbers are decided by the registrar, in one order.", class_="sub"),
        table(head, rows, numbers=[1], empty=empty),
        element("p", more, class_="pages") if found.next_page_token else None,
    )


async def model_page(stores: AskStores, name: str) -> Response:
    """Show a registered model with its versions."""
    detail = await get_registered_model(stores.postgres, name)
    rows = [_version_row(version, detail) for version in detail.versions]
    head = ("Version", "Aliases", "Stage", "From run", "Flavors", "Digest", "Tags", "Registered (UTC)")
    return page(
        name,
        "Models",
        element("h1", name),
        element("p", detail.model.description or "No description.", class_="sub"),
        section("Versions", table(head, rows, numbers=[0], empty="No versions."), count=len(rows)),
    )


def _version_row(version: ModelVersion, detail: RegisteredModelDetail) -> tuple[Node, ...]:
    aliases = [alias for alias, number in detail.model.aliases.items() if number == version.version]
    run = version.run_id
    return (
        element("span", version.version, class_="strong"),
        element("div", *(element("span", f"@{alias}", class_="chip") for alias in aliases), class_="chips"),
        version.stage,
        element("a", run[:12], href=f"/runs/{run}", class_="mono") if run else NOTHING,
        ", ".join(version.flavors),
        element("code", (version.digest or NOTHING)[:20], title=version.digest),
        element(
            "div", *(element("span", f"{k} = {v}", class_="chip") for k, v in version.tags.items()), class_="chips"
        ),
        moment(version.created_at),
    )


async def endpoints_page(stores: AskStores) -> Response:
    """List endpoints with what serves each and how that came."""
    endpoints = await list_endpoints(stores.postgres)
    empty = "No endpoints yet. An endpoint appears when a deployment of a registered model is requested."
    return page(
        "Endpoints",
        "Endpoints",
        element("h1", "Endpoints"),
        element("p", "What is wanted beside what runs; each step is a fact in the log.", class_="sub"),
        *(_endpoint(endpoint) for endpoint in endpoints),
        None if endpoints else element("p", empty, class_="empty"),
    )


def _endpoint(endpoint: Endpoint) -> Markup:
    wanted = endpoint.model or NOTHING
    if endpoint.follow == "alias" and endpoint.alias:
        wanted += f"@{endpoint.alias}"
    elif endpoint.version:
        wanted += f" version {endpoint.version}"
    rows = [
        (
            one.generation,
            element("a", f"{one.model} v{one.version}", href=f"/models/{quote(one.model or '', safe='')}"),
            state(one.state),
            element("a", one.url, href=one.url, rel="noreferrer") if (one.url or "").startswith("http") else one.url,
            moment(one.started_at),
            moment(one.updated_at),
            element("div", one.reason, class_="wide"),
        )
        for one in endpoint.deployments
    ]
    head = ("Generation", "Model", "State", "Address", "Started (UTC)", "Changed (UTC)", "Reason")
    return section(
        endpoint.endpoint,
        element(
            "p",
            f"wanted: {wanted} on target {endpoint.target or NOTHING} (follows {endpoint.follow or NOTHING})",
            class_="sub",
        ),
        table(head, rows, numbers=[0], empty="Nothing deployed yet."),
        count=len(rows),
    )


def _link(name: str) -> Markup:
    return element("a", name, href=f"/models/{quote(name, safe='')}", class_="strong")


def _alias(alias: str, version: int) -> Markup:
    return element("span", f"@{alias} → v{version}", class_="chip")


ROUTES = (
    Route("GET", "/models", models_page, Policy.READ, "Page: registered models"),
    Route("GET", "/models/{name}", model_page, Policy.READ, "Page: one registered model"),
    Route("GET", "/endpoints", endpoints_page, Policy.READ, "Page: endpoints"),
)
