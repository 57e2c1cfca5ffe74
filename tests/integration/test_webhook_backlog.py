"""A receiver that is away for long: what waits for it in memory is bounded, and it is told all of it in order, once."""

import asyncio
from pathlib import Path

import pytest

from runtide.direct import DirectPublisher
from runtide.webhooks import WebhookSettings
from runtide_consumers.progress import Progress
from runtide_consumers.webhooks.ledger import Ledger
from runtide_consumers.webhooks.service import run_webhooks
from runtide_schemas.events.catalog import RequestRejected
from runtide_schemas.events.requests import CreateRegisteredModel, CreateWebhook
from tests.integration.service_processes import running_broker, with_topics
from tests.integration.webhook_receiver import running_receiver
from tests.unit.test_registrar_decisions import Catalog

pytestmark = pytest.mark.gate

MODELS = 20


async def test_a_receiver_that_comes_back_is_told_everything_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runtide_consumers.webhooks.subscribers.MOST_WAITING", 3)
    catalog, stop, ready = Catalog(), asyncio.Event(), asyncio.Event()
    with running_broker(tmp_path) as broker, running_receiver() as receiver, Ledger(tmp_path / "l.sqlite") as ledger:
        kafka = await with_topics(broker.bootstrap)
        ledger.begin(0)
        hook = CreateWebhook(
            webhook_id="11111111-1111-4111-8111-111111111111",
            name="w",
            url=receiver.url,
            events=("registered_model.created",),
        )
        asked = [hook, *(CreateRegisteredModel(name=f"m{number}") for number in range(MODELS))]
        async with DirectPublisher(kafka, "registrar") as publisher:
            for request in asked:
                fact = catalog.ask(request)
                assert not isinstance(fact, RequestRejected), fact
                await publisher.publish(fact)
        receiver.answer = lambda number: (503, {}) if number < 2 else (200, {})
        settings = WebhookSettings(allow_private=True, attempts=30, pause_seconds=0.01)
        running = asyncio.create_task(
            run_webhooks(kafka, settings, ledger, stop=stop, ready=ready.set, progress=Progress())
        )
        await asyncio.to_thread(receiver.wait_for, MODELS + 2)
        stop.set()
        await running
        assert receiver.names() == ["m0", "m0", *(f"m{number}" for number in range(MODELS))]
        assert len({one.headers["X-MLflow-Delivery-Id"] for one in receiver.received}) == MODELS
    assert "does not keep up: 3 deliveries wait" in caplog.text
