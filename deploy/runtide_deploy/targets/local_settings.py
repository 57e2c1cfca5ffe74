"""Where the local-process target lets its scoring servers listen."""

import re
import socket
from collections.abc import Iterable

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide_consumers.deployer.target import CannotDeploy

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


class LocalTargetSettings(BaseSettings):
    """Environment: ``RUNTIDE_LOCAL_TARGET_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_LOCAL_TARGET_", frozen=True, populate_by_name=True)

    host: str = Field(default="127.0.0.1", description="Address that scoring servers listen on; they ask for no token.")
    ports: str = Field(
        default="",
        pattern=r"^(\d{1,5}-\d{1,5})?$",
        description="Ports for scoring servers, as in 8100-8109; empty: any free one.",
    )
    public_host: str = Field(
        default="",
        description="Host in the addresses that callers are told, where it is not the one listened on: in a container, "
        "the address that the ports are published on.",
    )

    artifacts: str = Field(
        default="",
        validation_alias=AliasChoices("RUNTIDE_LOCAL_TARGET_ARTIFACTS", "RUNTIDE_ARTIFACTS"),
        description="Where the gateway keeps artifacts, to find models whose source is mlflow-artifacts:.",
    )

    @property
    def port_range(self) -> range:
        """Return the ports, empty for any free one."""
        found = _RANGE.fullmatch(self.ports)
        return range(int(found[1]), int(found[2]) + 1) if found else range(0)

    def url(self, host: str, port: int) -> str:
        """Return what callers are told of a server that listens on ``host`` and ``port``."""
        shown = self.public_host or host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def free_port(host: str, ports: range, taken: Iterable[int]) -> int:
    """Return the first port that is not ``taken`` and that nobody listens on; 0, any free one, when there is no range.

    ``taken`` tells of servers that were started and do not listen yet: they load their model first.

    Raises:
        CannotDeploy: there is none.
    """
    if not ports:
        return 0
    others = frozenset(taken)
    for port in ports:
        if port not in others and _free(host, port):
            return port
    raise CannotDeploy(
        f"all ports {ports[0]}-{ports[-1]} of the local target are taken; undeploy an endpoint, or widen "
        "RUNTIDE_LOCAL_TARGET_PORTS"
    )


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
