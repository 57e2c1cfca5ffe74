"""The parts that MLflow's registry calls need, as real processes: broker, registrar, state projection and gateway."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from tests.integration.gateway_stack import Gateway
from tests.integration.service_processes import Service, running_broker, started, with_topics


@dataclass(frozen=True)
class RegistryStack:
    """Where it all is."""

    gateway: Gateway
    kafka: KafkaSettings
    dsn: str

    def client(self) -> MlflowClient:
        """Return MLflow's own client of it."""
        return MlflowClient(tracking_uri=self.gateway.url, registry_uri=self.gateway.url)

    def call(self, method: str, path: str, **fields: Any) -> httpx.Response:
        """Call MLflow's API; GET sends fields as its query."""
        url = f"{self.gateway.url}/api/2.0/mlflow/{path}"
        sent: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        return httpx.request(method, url, timeout=60, trust_env=False, **sent)

    def state(self, *bodies: Any) -> None:
        """Publish facts as a client of ours would."""
        asyncio.run(self._publish(bodies))

    async def _publish(self, bodies: tuple[Any, ...]) -> None:
        async with DirectPublisher(self.kafka, "client", 60.0) as publisher:
            for body in bodies:
                await publisher.publish(body)


@contextmanager
def running_registry_stack(folder: Path, dsn: str, **variables: str) -> Iterator[RegistryStack]:
    """Run the parts; ``variables`` are the gateway's."""
    with running_broker(folder) as broker:
        kafka = asyncio.run(with_topics(broker.bootstrap))
        registrar = Service(folder, "registrar", "runtide_consumers.registrar", bootstrap=broker.bootstrap)
        state = Service(folder, "postgres", "runtide_consumers.postgres", "--dsn", dsn, bootstrap=broker.bootstrap)
        arguments = ("--port", "0", "--bootstrap", broker.bootstrap)
        environment = {"RUNTIDE_POSTGRES_DSN": dsn, "RUNTIDE_GATEWAY_ARTIFACTS": str(folder / "artifacts")} | variables
        gateway = Gateway(folder, *arguments, **environment)
        with started(registrar), started(state):
            try:
                gateway.start()
                registrar.ready()
                state.ready()
                yield RegistryStack(gateway, kafka, dsn)
            finally:
                gateway.stop()
