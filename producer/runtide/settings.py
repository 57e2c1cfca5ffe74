"""Settings of the SDK, from the environment: every field is ``RUNTIDE_<NAME>``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.spool.limits import Policy, SpoolLimits


class ClientSettings(BaseSettings):
    """How a training process logs. Addresses are resolved by ``connection.Connection``, Kafka by ``KafkaSettings``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_", frozen=True)

    spool_bytes: int = Field(default=4 * 1024**3, gt=8 * 1024**2, description="Disk that one writer's spool may take.")
    spool_policy: Policy = Field(
        default="block",
        description="At that bound: block waits spool_wait seconds for room, drop does not; then calls are dropped, "
        "counted and warned of.",
    )
    spool_wait: float = Field(default=5.0, ge=0, description="Seconds that the policy block waits.")
    memory_bytes: int = Field(
        default=32 * 1024**2,
        ge=1024**2,
        description="Memory that one writer's events may take while the broker is away or slow: half of it on their way, "
        "half of what waits behind them; the rest stays on the disk. Clients copy what is on its way: up to four times.",
    )
    lease: float = Field(
        default=60.0,
        ge=0,
        description="Seconds within which a writer that can reach the log promises to be heard, else its run is marked LOST; 0 "
        "promises nothing.",
    )
    exit_deadline: float = Field(default=10.0, ge=0, description="Seconds that the end of a run waits for the broker.")
    share_run: bool = Field(
        default=False,
        description="The ranks of a job write one run without RUNTIDE_RUN_ID: its id is derived from the launcher's job.",
    )
    capture: str = Field(
        default="",
        description="What runs capture by themselves, with commas: code, environment, system, console. An argument of "
        "start_run wins.",
    )
    system_interval: float = Field(default=10.0, gt=0, description="Seconds between samples of system metrics.")
    handle_sigterm: bool = Field(
        default=False, description="Turn SIGTERM into a clean exit (status KILLED) when nothing else handles it."
    )

    def limits(self) -> SpoolLimits:
        """Return the bounds of a spool."""
        return SpoolLimits(
            most_bytes=self.spool_bytes,
            policy=self.spool_policy,
            wait=self.spool_wait,
            in_flight_bytes=self.memory_bytes // 2,
            cached_bytes=self.memory_bytes // 2,
        )
