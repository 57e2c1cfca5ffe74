"""Settings of one Apache Kafka node, with their variables ``RUNTIDE_APACHE_KAFKA_<NAME>``."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1 << 20


class ApacheKafkaSettings(BaseSettings):
    """Settings of one node, which is broker and controller at once (KRaft's combined mode)."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_APACHE_KAFKA_", frozen=True, extra="forbid")

    data: Path = Field(description="Data directory; created and formatted when missing.")
    host: str = Field(default="127.0.0.1", description="Address to bind and to advertise to clients.")
    port: int = Field(default=9092, ge=0, le=65535, description="Port for clients; 0 = any free one.")
    controller_port: int = Field(
        default=0, ge=0, le=65535, description="Port for controllers; 0 = any free one, for a node alone."
    )
    node_id: int = Field(default=1, ge=0, description="Kafka node id.")
    voters: str = Field(
        default="", description="All nodes' controllers, as in 1@127.0.0.1:19093,2@127.0.0.1:29093; empty = this one."
    )
    cluster_id: str = Field(default="", description="Cluster id given to new storage; empty = a random one.")
    heap_mebibytes: int = Field(default=384, ge=128, description="Largest Java heap.")
    max_message_bytes: int = Field(
        default=8 * MEBIBYTE, ge=1024, description="Largest record batch accepted (message.max.bytes)."
    )
    sync_appends: bool = Field(
        default=True, description="A node alone syncs each append before it answers; replicated ones do not need to."
    )
    properties: dict[str, str] = Field(
        default_factory=dict, description="Further entries of server.properties as JSON; they win over the above."
    )

    @property
    def voter_count(self) -> int:
        """Nodes of the cluster."""
        return len(self.voters.split(",")) if self.voters else 1
