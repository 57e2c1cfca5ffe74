"""Webhooks without a network: where they may go, how they are signed, what they say, and who is told of what."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.webhook import VALID_ENTITY_ACTIONS, WebhookEvent
from mlflow.webhooks.delivery import _generate_hmac_signature
from mlflow.webhooks.types import get_example_payload_for_event

from runtide.http_exchange import Response
from runtide.webhooks import EXAMPLES, Delivery, DeliveryFailed, Seal, WebhookSettings, check_destination
from runtide.webhooks.addresses import is_public
from runtide.webhooks.sending import exchange, signature
from runtide_consumers.registrar.decide_webhooks import EVENTS
from runtide_consumers.webhooks.delivering import Deliverer
from runtide_consumers.webhooks.ledger import Ledger
from runtide_consumers.webhooks.subscribers import Subscribers
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.events.requests import (
    CreateRegisteredModel,
    CreateWebhook,
    DeleteAlias,
    DeleteModelVersionTags,
    DeleteRegisteredModelTags,
    DeleteWebhook,
    RegisterModelVersion,
    RenameRegisteredModel,
    SetAlias,
    SetModelVersionTags,
    SetRegisteredModelTags,
    UpdateWebhook,
)
from tests.unit.test_registrar_decisions import Catalog

ONE, OTHER = "1" * 36, "2" * 36
MARK = {"mlflow.prompt.is_prompt": "true"}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "cannot be empty"),
        ("http://8.8.8.8/x", "Invalid webhook URL scheme: 'http'"),
        ("file:///etc/passwd", "Invalid webhook URL scheme: 'file'"),
        ("https:///x", "must include a hostname"),
        ("https://[x/y", "Invalid webhook URL"),
        ("https://8.8.8.8:99999/", "Invalid webhook URL"),
        ("https://user:secret@8.8.8.8/", "no credentials"),
        ("https://8.8.8.8/a b", "printable ASCII"),
        ("https://8.8.8.8/\r\nX: y", "printable ASCII"),
        ("https://127.0.0.1/x", "'127.0.0.1' resolves to 127.0.0.1"),
        ("https://[::ffff:10.0.0.1]/x", "non-public IP address"),
        ("https://127.1/x", "not a canonical IP address literal"),
        ("https://2130706433/x", "not a canonical IP address literal"),
        ("https://localhost/x", "non-public IP address"),
    ],
)
async def test_where_webhooks_may_not_go(url: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words.replace("[", r"\[")):
        await check_destination(url, allow_private=False)


async def test_every_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [(socket.AF_INET, 1, 6, "", (one, 443)) for one in ("8.8.8.8", "10.0.0.1")]

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return answers

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(InvalidRequest, match=r"'mixed\.example' resolves to 10\.0\.0\.1"):
        await check_destination("https://mixed.example/x", allow_private=False)
    del answers[1]
    assert await check_destination("https://mixed.example/x", allow_private=False) == ["8.8.8.8"]


async def test_a_delivery_to_a_private_address_is_not_made_and_not_tried_again() -> None:
    delivery = Delivery("https://127.0.0.1:9/x", "id", {})
    with pytest.raises(DeliveryFailed, match="non-public") as failed:
        await exchange(delivery, WebhookSettings(allow_private=False))
    assert not failed.value.again


def test_the_signature_is_mlflows() -> None:
    body = '{"name": "wörld"}'
    assert signature("säcret", "id", "17", body.encode()) == _generate_hmac_signature("säcret", "id", "17", body)


def test_examples_and_events_are_mlflows() -> None:
    known = {f"{entity}.{action}" for entity, actions in VALID_ENTITY_ACTIONS.items() for action in actions}
    assert known == EVENTS
    for event, example in EXAMPLES.items():
        assert example == get_example_payload_for_event(WebhookEvent.from_str(event))  # type: ignore[arg-type]


def test_a_secret_is_sealed_with_its_key_alone(tmp_path: Path) -> None:
    seal = Seal("one key")
    token = seal.close("säcret")
    assert "cret" not in token
    assert (seal.open(token), seal.close(""), seal.open("")) == ("säcret", "", "")
    with pytest.raises(FatalError, match="another key"):
        Seal("another key").open(token)
    with pytest.raises(InvalidRequest, match="RUNTIDE_WEBHOOK_KEY_FILE"):
        Seal.of(None)


def hook(webhook_id: str, *events: str, **values: Any) -> CreateWebhook:
    """Return a request for a webhook."""
    return CreateWebhook(webhook_id=webhook_id, name="w", url="https://x/y", events=events, **values)


def folded(*requests: Any, begun: int = 0, positions: dict[str, int] | None = None) -> Subscribers:
    """Return who is to be told of what the requests came to; the first fact stands at offset 0."""
    catalog, subscribers = Catalog(), Subscribers(begun, positions or {})
    for offset, request in enumerate(requests):
        subscribers.fold(offset, catalog.ask(request))
    return subscribers


def waiting(subscribers: Subscribers, webhook_id: str = ONE) -> list[tuple[str, dict[str, Any]]]:
    """Return what a webhook has not been told."""
    return [(one.told.event, one.told.data) for one in subscribers.by_id[webhook_id].waiting]


def test_models_are_told_in_mlflows_words() -> None:
    every = hook(ONE, *EVENTS)
    version = RegisterModelVersion(name="m", source="s3://b/x", run_id="r", tags={"a": "1"}, aliases=("best",))
    told = waiting(
        folded(
            every,
            CreateRegisteredModel(name="m", tags={"t": "1"}, description="d"),
            version,
            SetModelVersionTags(name="m", version=1, tags={"k": "v"}),
            DeleteModelVersionTags(name="m", version=1, keys=("k",)),
            SetAlias(name="m", alias="prod", version=1),
            DeleteAlias(name="m", alias="prod"),
            SetRegisteredModelTags(name="m", tags={"not": "told"}),
            RegisterModelVersion(name="n", source="s3://b/y"),
        )
    )
    assert told == [
        ("registered_model.created", {"name": "m", "tags": {"t": "1"}, "description": "d"}),
        (
            "model_version.created",
            {"name": "m", "version": "1", "source": "s3://b/x", "run_id": "r", "tags": {"a": "1"}, "description": None},
        ),
        ("model_version_alias.created", {"name": "m", "alias": "best", "version": "1"}),
        ("model_version_tag.set", {"name": "m", "version": "1", "key": "k", "value": "v"}),
        ("model_version_tag.deleted", {"name": "m", "version": "1", "key": "k"}),
        ("model_version_alias.created", {"name": "m", "alias": "prod", "version": "1"}),
        ("model_version_alias.deleted", {"name": "m", "alias": "prod"}),
        ("registered_model.created", {"name": "n", "tags": {}, "description": ""}),
        (
            "model_version.created",
            {"name": "n", "version": "1", "source": "s3://b/y", "run_id": None, "tags": {}, "description": None},
        ),
    ]


def test_prompts_are_told_as_prompts_until_they_are_none_under_whatever_name() -> None:
    text = {**MARK, "mlflow.prompt.text": "Hello {{name}}!", "lang": "en"}
    told = waiting(
        folded(
            hook(ONE, *EVENTS),
            CreateRegisteredModel(name="p", tags={**MARK, "_mlflow_prompt_type": "text", "a": "1"}),
            RegisterModelVersion(name="p", source="dummy-source", tags=text),
            RenameRegisteredModel(name="p", new_name="q"),
            SetAlias(name="q", alias="best", version=1),
            SetRegisteredModelTags(name="q", tags={"b": "2"}),
            DeleteRegisteredModelTags(name="q", keys=tuple(MARK)),
            SetAlias(name="q", alias="best", version=1),
        )
    )
    assert told == [
        ("prompt.created", {"name": "p", "tags": {"a": "1"}, "description": ""}),
        (
            "prompt_version.created",
            {"name": "p", "version": "1", "template": "Hello {{name}}!", "tags": {"lang": "en"}, "description": None},
        ),
        ("prompt_alias.created", {"name": "q", "alias": "best", "version": "1"}),
        ("prompt_tag.set", {"name": "q", "key": "b", "value": "2"}),
        ("model_version_alias.created", {"name": "q", "alias": "best", "version": "1"}),
    ]


CREATED = "registered_model.created"


def test_a_webhook_is_told_what_it_asks_for_from_when_it_asks_and_while_it_is_active() -> None:
    subscribers = folded(
        CreateRegisteredModel(name="before"),
        hook(ONE, CREATED),
        hook(OTHER, "model_version.created"),
        CreateRegisteredModel(name="told"),
        UpdateWebhook(webhook_id=ONE, status="DISABLED"),
        CreateRegisteredModel(name="not told"),
        UpdateWebhook(webhook_id=ONE, status="ACTIVE"),
        CreateRegisteredModel(name="told again"),
        UpdateWebhook(webhook_id=ONE, events=("prompt.created",)),
        CreateRegisteredModel(name="no longer asked for"),
    )
    assert [data["name"] for _, data in waiting(subscribers)] == ["told", "told again"]
    assert waiting(subscribers, OTHER) == []


def test_what_was_told_or_happened_before_the_ledger_began_is_not_told_again() -> None:
    requests = (hook(ONE, CREATED), *(CreateRegisteredModel(name=f"m{number}") for number in range(1, 6)))
    assert [data["name"] for _, data in waiting(folded(*requests, positions={ONE: 4}))] == ["m4", "m5"]
    assert [data["name"] for _, data in waiting(folded(*requests, begun=5))] == ["m5"]
    gone = folded(*requests, DeleteWebhook(webhook_id=ONE))
    assert (gone.by_id, gone.gone) == ({}, {ONE})


def test_a_zombie_registrars_fact_is_told_to_nobody() -> None:
    catalog, subscribers = Catalog(), Subscribers(0, {})
    facts = [catalog.ask(one) for one in (hook(ONE, CREATED), CreateRegisteredModel(name="m"))]
    for offset, fact in enumerate((*facts, facts[1])):
        subscribers.fold(offset, fact)
    assert len(waiting(subscribers)) == 1


def test_what_waits_is_bounded_and_the_rest_is_read_again_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtide_consumers.webhooks.subscribers.MOST_WAITING", 2)
    requests = (hook(ONE, CREATED), hook(OTHER, CREATED), *(CreateRegisteredModel(name=f"m{n}") for n in range(7)))
    catalog, subscribers = Catalog(), Subscribers(0, {})
    facts = [catalog.ask(request) for request in requests]

    def fold(into: Subscribers) -> Subscribers:
        for offset, fact in enumerate(facts):
            into.fold(offset, fact)
        return into

    def tell(webhook_id: str) -> str:
        one = subscribers.by_id[webhook_id]
        item = one.waiting.popleft()
        one.next_offset = item.offset + 1
        return str(item.told.data["name"])

    fold(subscribers)
    told: dict[str, list[str]] = {ONE: [], OTHER: []}
    while subscribers.emptied() or any(one.waiting for one in subscribers.by_id.values()):
        assert all(len(one.waiting) <= 2 for one in subscribers.by_id.values())
        if subscribers.emptied():
            again = subscribers.begun_again()
            if subscribers.by_id[OTHER].waiting:  # deliveries go on while the log is read
                told[OTHER].append(tell(OTHER))
            subscribers.refill(fold(again))
        for webhook_id in (ONE, ONE, OTHER):
            if subscribers.by_id[webhook_id].waiting:
                told[webhook_id].append(tell(webhook_id))
    assert told == {one: [f"m{n}" for n in range(7)] for one in (ONE, OTHER)}
    assert not any(one.behind for one in subscribers.by_id.values())


class Receivers:
    """Stands for the network: notes what is sent, and fails as it is told to."""

    def __init__(self, fail: Callable[[Delivery, int], DeliveryFailed | None] = lambda *_: None) -> None:
        self.sent: list[tuple[str, str]] = []
        self._fail = fail

    async def send(self, delivery: Delivery, settings: WebhookSettings) -> Response:
        """Take a delivery."""
        self.sent.append((delivery.delivery_id, delivery.body["data"]["name"]))
        if failure := self._fail(delivery, len(self.sent)):
            raise failure
        return Response(200, b"")


async def delivered(tmp_path: Path, subscribers: Subscribers, receivers: Receivers, attempts: int = 3) -> Ledger:
    """Deliver all that waits and return the ledger."""
    ledger = Ledger(tmp_path / "webhooks.sqlite")
    settings = WebhookSettings(attempts=attempts, pause_seconds=0)
    deliverer = Deliverer(subscribers, ledger, settings, send=receivers.send)
    await deliverer.look()
    await deliverer.settled()
    return ledger


TWO = (hook(ONE, CREATED), CreateRegisteredModel(name="a"), CreateRegisteredModel(name="b"))


async def test_what_fails_is_tried_again_in_order_under_the_same_id(tmp_path: Path) -> None:
    receivers = Receivers(lambda _, count: DeliveryFailed("away", again=True) if count < 3 else None)
    with await delivered(tmp_path, folded(*TWO), receivers) as ledger:
        assert [name for _, name in receivers.sent] == ["a", "a", "a", "b"]
        assert len({delivery_id for delivery_id, _ in receivers.sent}) == 2
        assert ledger.positions() == {ONE: 3}


@pytest.mark.parametrize(("again", "tries"), [(True, 3), (False, 1)])
async def test_what_fails_too_often_or_for_good_is_given_up_and_the_next_is_told(
    tmp_path: Path, again: bool, tries: int
) -> None:
    receivers = Receivers(
        lambda delivery, _: DeliveryFailed("no", again=again) if delivery.body["data"]["name"] == "a" else None
    )
    with await delivered(tmp_path, folded(*TWO), receivers) as ledger:
        assert [name for _, name in receivers.sent] == ["a"] * tries + ["b"]
        assert ledger.positions() == {ONE: 3}


async def test_a_webhook_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    subscribers = folded(hook(ONE, CREATED), hook(OTHER, CREATED), CreateRegisteredModel(name="a"))
    subscribers.by_id[ONE].url = "https://silent/"
    told = asyncio.Event()

    async def send(delivery: Delivery, settings: WebhookSettings) -> Response:
        if delivery.url == "https://silent/":
            await asyncio.Event().wait()
        told.set()
        return Response(200, b"")

    with Ledger(tmp_path / "webhooks.sqlite") as ledger:
        deliverer = Deliverer(subscribers, ledger, WebhookSettings(), send=send)
        await deliverer.look()
        await told.wait()
        await deliverer.close()


def test_the_ledger_begins_once(tmp_path: Path) -> None:
    for end in (7, 9):
        with Ledger(tmp_path / "folder" / "webhooks.sqlite") as ledger:
            assert ledger.begin(end) == 7
    (tmp_path / "broken").write_bytes(b"not a database" * 100)
    with pytest.raises(FatalError, match="cannot be used"):
        Ledger(tmp_path / "broken")


async def test_the_ledger_is_closed_after_what_is_being_written(tmp_path: Path) -> None:
    """A write whose task is cancelled goes on in its thread; SQLite would end the process if its file went away meanwhile."""
    for number in range(20):
        with Ledger(tmp_path / f"{number}.sqlite") as ledger:
            writing = [asyncio.create_task(ledger.done(f"w{one}", one)) for one in range(8)]
            await asyncio.sleep(0)
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
