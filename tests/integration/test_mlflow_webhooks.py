"""Webhooks over MLflow's own client: registered at the gateway, delivered to real receivers by the process that does it."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _generate_hmac_signature

from tests.certificates import Authority
from tests.integration.registry_stack import RegistryStack, running_registry_stack
from tests.integration.service_processes import Service, started
from tests.integration.webhook_receiver import Received, running_receiver
from tests.postgres import PostgresServer

pytestmark = pytest.mark.gate

CREATED = "registered_model.created"


@dataclass(frozen=True)
class WebhookStack:
    """A registry's stack, and the process that delivers."""

    registry: RegistryStack
    webhooks: Service
    tls: ssl.SSLContext

    def client(self) -> MlflowClient:
        """Return MLflow's client."""
        return self.registry.client()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[WebhookStack]:
    """A stack whose webhooks may go to this machine."""
    folder = tmp_path_factory.mktemp("webhooks")
    authority = Authority(folder)
    certificate = authority.issue("receiver", names=("localhost",))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    (folder / "key").write_text("a secret of the stack")
    variables = {
        "RUNTIDE_WEBHOOK_KEY_FILE": str(folder / "key"),
        "RUNTIDE_WEBHOOK_ALLOW_PRIVATE": "true",
        "RUNTIDE_WEBHOOK_TLS_CA": str(authority.path),
        "RUNTIDE_WEBHOOK_PAUSE_SECONDS": "0.05",
        "RUNTIDE_WEBHOOK_ATTEMPTS": "30",
    }
    with (
        postgres_server.database() as dsn,
        running_registry_stack(folder, dsn, **variables) as registry,
        started(_deliverer(folder, registry, variables)) as webhooks,
    ):
        webhooks.ready()
        yield WebhookStack(registry, webhooks, tls)


def _deliverer(folder: Path, registry: RegistryStack, variables: dict[str, str]) -> Service:
    arguments = ("--state", str(folder / "state"))
    bootstrap = registry.kafka.bootstrap
    return Service(
        folder, "webhooks", "runtide_consumers.webhooks", *arguments, bootstrap=bootstrap, variables=variables
    )


def events(*names: str) -> list[Any]:
    """Return events by their names."""
    return [WebhookEvent.from_str(name) for name in names]  # type: ignore[arg-type]


def check_signature(request: Received, secret: str) -> None:
    """Hold a delivery to its signature."""
    headers = request.headers
    signed = _generate_hmac_signature(
        secret, headers["X-MLflow-Delivery-Id"], headers["X-MLflow-Timestamp"], request.body.decode()
    )
    assert headers["X-MLflow-Signature"] == signed


def test_a_webhook_from_its_registration_to_its_end(stack: WebhookStack) -> None:
    client = stack.client()
    url, asked = "https://localhost:9/hook?x=1", events(CREATED, "model_version_alias.deleted")
    made = client.create_webhook("my.hook", url, asked, description="Tells.", secret="s3cret")
    assert (made.name, made.url, made.events, made.description) == ("my.hook", url, asked, "Tells.")
    assert (made.status, made.secret) == (WebhookStatus.ACTIVE, None)
    assert made.creation_timestamp == made.last_updated_timestamp > 0
    got = client.get_webhook(made.webhook_id)
    assert {**vars(got)} == {**vars(made)}
    changed = client.update_webhook(made.webhook_id, name="other", status="DISABLED", description="")
    assert (changed.name, changed.status, changed.description) == ("other", WebhookStatus.DISABLED, None)
    assert (changed.url, changed.events, changed.creation_timestamp) == (url, asked, made.creation_timestamp)
    assert made.webhook_id in {one.webhook_id for one in client.list_webhooks()}
    client.delete_webhook(made.webhook_id)
    assert made.webhook_id not in {one.webhook_id for one in client.list_webhooks()}
    for call in (client.get_webhook, client.delete_webhook, client.test_webhook):
        with pytest.raises(MlflowException, match=f"Webhook with ID {made.webhook_id} not found.") as refused:
            call(made.webhook_id)
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_webhooks_are_listed_page_by_page(stack: WebhookStack) -> None:
    client = stack.client()
    made = [client.create_webhook(f"n{number}", "https://localhost:9/", events(CREATED)) for number in range(5)]
    found: list[str] = []
    token: str | None = None
    while token != "":
        page = client.list_webhooks(max_results=2, page_token=token)
        assert len(page) <= 2
        found += [one.webhook_id for one in page]
        token = page.token or ""
    assert len(found) == len(set(found))
    assert {one.webhook_id for one in made} <= set(found)
    for one in made:
        client.delete_webhook(one.webhook_id)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": None}, "Missing value for required parameter 'name'"),
        ({"url": ""}, "Missing value for required parameter 'url'"),
        ({"events": None}, "Missing value for required parameter 'events'"),
        ({"events": []}, "Webhook events must be a non-empty list"),
        ({"name": "-hook"}, "Webhook name '-hook' is invalid."),
        ({"url": "ftp://localhost/"}, "Invalid webhook URL scheme: 'ftp'"),
        ({"url": "https://no-such-host.invalid/"}, "Cannot resolve Webhook URL hostname 'no-such-host.invalid'"),
        ({"events": [{"entity": "RUN", "action": "CREATED"}]}, "run.created"),
        ({"events": [{"entity": "PROMPT"}]}, "events[0].action"),
        ({"status": "PAUSED"}, "parameter 'status'"),
        ({"secret": "x" * 1_001}, "Webhook secret has 1001 characters"),
    ],
)
def test_what_no_webhook_can_be_is_refused(stack: WebhookStack, fields: dict[str, Any], words: str) -> None:
    told = {"name": "hook", "url": "https://localhost/", "events": [{"entity": "PROMPT", "action": "CREATED"}]}
    answer = stack.registry.call("POST", "webhooks", **told | fields)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
    assert words in answer.json()["message"]


async def test_a_secret_is_nowhere_in_the_open(stack: WebhookStack) -> None:
    secret = "very s3cret indeed"
    client = stack.client()
    made = client.create_webhook("hidden", "https://localhost:9/", events(CREATED), secret=secret)
    answer = stack.registry.call("GET", f"webhooks/{made.webhook_id}").text
    assert "secret" not in answer
    connection = await asyncpg.connect(stack.registry.dsn)
    try:
        [kept] = await connection.fetch("select secret from runtide.webhooks where webhook_id = $1", made.webhook_id)
        bodies = await connection.fetch(
            "select body::text as body from runtide.history where entity = $1", made.webhook_id
        )
    finally:
        await connection.close()
    assert kept["secret"]
    assert bodies
    for text in (kept["secret"], *(row["body"] for row in bodies)):
        assert secret not in text
    client.delete_webhook(made.webhook_id)


def test_a_test_says_what_the_receiver_answered(stack: WebhookStack) -> None:
    client = stack.client()
    with running_receiver(stack.tls, "localhost") as receiver:
        made = client.create_webhook("tested", f"{receiver.url}/a?b=c", events(CREATED), secret="s3cret")
        result = client.test_webhook(made.webhook_id)
        assert (result.success, result.response_status, result.response_body) == (True, 200, "seen")
        [request] = receiver.received
        assert (request.path, request.event) == ("/a?b=c", CREATED)
        assert request.told["data"]["name"] == "example_model"
        check_signature(request, "s3cret")
        receiver.answer = lambda _: (302, {"Location": f"{receiver.url}/elsewhere"})
        moved = client.test_webhook(made.webhook_id, "model_version_tag.set")
        assert (moved.success, moved.response_status) == (False, 302)
        assert [one.path for one in receiver.received] == ["/a?b=c", "/a?b=c"]
        assert receiver.received[1].event == "model_version_tag.set"
    away = client.test_webhook(made.webhook_id)
    assert not away.success
    assert (away.error_message or "").startswith("Failed to test webhook:")
    client.delete_webhook(made.webhook_id)


def test_what_happens_is_told_once_in_order_and_signed_over_tls(stack: WebhookStack) -> None:
    client = stack.client()
    with running_receiver(stack.tls, "localhost") as receiver, running_receiver() as other:
        asked = events(CREATED, "model_version.created", "model_version_tag.set", "model_version_alias.created")
        made = client.create_webhook("tells", receiver.url, asked, secret="s3cret")
        unsigned = client.create_webhook("tells.too", other.url, events(CREATED))
        client.create_registered_model("told", tags={"a": "1"})
        client.create_model_version("told", "s3://bucket/model")
        client.set_model_version_tag("told", "1", "k", "v")
        client.set_registered_model_alias("told", "best", "1")
        told = receiver.wait_for(4)
        assert [one.event for one in told] == [str(one) for one in asked]
        assert told[0].told["data"] == {"name": "told", "tags": {"a": "1"}, "description": ""}
        assert told[3].told["data"] == {"name": "told", "alias": "best", "version": "1"}
        for one in told:
            check_signature(one, "s3cret")
        assert len({one.headers["X-MLflow-Delivery-Id"] for one in told}) == 4
        [plain] = other.wait_for(1)
        assert "X-MLflow-Signature" not in plain.headers
        for webhook in (made, unsigned):
            client.delete_webhook(webhook.webhook_id)


def test_a_receiver_that_fails_is_tried_again_and_holds_up_no_other(stack: WebhookStack) -> None:
    client = stack.client()
    with running_receiver() as failing, running_receiver() as well:
        failing.answer = lambda number: (503 if number < 3 else 200, {})
        hooks = [client.create_webhook("w", one.url, events(CREATED)) for one in (failing, well)]
        client.create_registered_model("told to both")
        well.wait_for(1)
        tries = failing.wait_for(4)
        assert len({one.headers["X-MLflow-Delivery-Id"] for one in tries}) == 1
        failing.answer = lambda _: (410, {})
        for name in ("refused", "refused too"):
            client.create_registered_model(name)
        assert [one.told["data"]["name"] for one in failing.wait_for(6)[4:]] == ["refused", "refused too"]
        for webhook in hooks:
            client.delete_webhook(webhook.webhook_id)


def test_a_process_that_is_killed_goes_on_where_it_was_and_tells_nothing_twice_that_was_taken(
    stack: WebhookStack,
) -> None:
    client = stack.client()
    with running_receiver() as receiver:
        made = client.create_webhook("killed", receiver.url, events(CREATED))
        client.create_registered_model("taken")
        receiver.wait_for(1)
        receiver.answer = lambda _: (503, {})
        client.create_registered_model("not taken")
        receiver.wait_for(2)
        stack.webhooks.kill()
        client.create_registered_model("while it was away")
        receiver.answer = lambda _: (200, {})
        stack.webhooks.start()
        stack.webhooks.ready()
        with receiver.came:
            assert receiver.came.wait_for(lambda: receiver.names()[-1:] == ["while it was away"], 60)
        names = receiver.names()
        tries = len(names) - 2
        assert names == ["taken", *["not taken"] * tries, "while it was away"]
        ids = [one.headers["X-MLflow-Delivery-Id"] for one in receiver.received]
        assert (len(set(ids)), len(set(ids[1:-1]))) == (3, 1)
        client.delete_webhook(made.webhook_id)


def test_a_second_process_on_one_state_refuses_to_start(stack: WebhookStack) -> None:
    folder = stack.webhooks.log_path.parent
    second = Service(
        folder,
        "second",
        "runtide_consumers.webhooks",
        *("--state", str(folder / "state")),
        bootstrap=stack.registry.kafka.bootstrap,
    )
    with started(second):
        assert second.wait() == 3
        assert "another process uses" in second.log()
