"""Settings of webhooks, the same for the gateway, which registers them, and the process that delivers them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WebhookSettings(BaseSettings):
    """Where webhooks may go, and how patiently. Environment: ``RUNTIDE_WEBHOOK_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_WEBHOOK_", frozen=True)

    key_file: Path | None = Field(
        default=None,
        description="File with the secret that webhooks' own secrets are encrypted with; without one none can have a secret.",
    )
    allow_private: bool = Field(
        default=False,
        description="Whether webhooks may go to addresses that are not public, and by http. Whoever may register one can "
        "then have this machine send to whatever it reaches.",
    )
    tls_ca: Path | None = Field(
        default=None, description="File of certificates (PEM) to trust beside the system's, for receivers of your own."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, description="Longest wait for a receiver's answer.")
    attempts: int = Field(default=6, ge=1, description="How often a delivery is tried in all.")
    pause_seconds: float = Field(
        default=1.0,
        ge=0,
        description="Pause before the second attempt; each later one is twice as long, up to a minute.",
    )
