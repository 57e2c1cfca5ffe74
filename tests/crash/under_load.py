"""Keep clients producing while something is killed again and again; then judge the log."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from tests.broker_process import wait_until
from tests.crash.load_client import LoadClient
from tests.crash.oracle import assert_nothing_lost

PARTITIONS = 3
ACKNOWLEDGED_BETWEEN_KILLS = 50
"""Records that each client has acknowledged between two kills."""
_SECONDS = 150.0

Programs = Mapping[str, Sequence[str]]
"""The command of each client's program by the client's name."""


def kill_under_load(
    programs: Programs,
    address: str,
    topic: str,
    kills: int,
    kill_and_restart: Callable[[int, "Load"], None],
    begins: Callable[[], Mapping[int, int]] = dict,
) -> "Load":
    """Produce with every client, call ``kill_and_restart(number, load)`` at random moments, and judge the log.

    ``begins`` is called when all is produced, and says where partitions begin whose oldest records were deleted.
    """
    with ExitStack() as stack:
        load = Load(programs, address, topic, stack)
        for number in range(kills):
            load.until_more_acknowledged()
            time.sleep(random.random() * 0.02)
            kill_and_restart(number, load)
        load.until_more_acknowledged()
        load.end()
    asyncio.run(assert_nothing_lost(address, topic, PARTITIONS, load.clients, begins()))
    return load


class Load:
    """All clients at once."""

    def __init__(self, programs: Programs, address: str, topic: str, stack: ExitStack) -> None:
        """Start them; ``stack`` kills them."""
        self.clients: list[LoadClient] = []
        for name, program in programs.items():
            self.clients.append(LoadClient(name, program, address, topic, PARTITIONS))
            stack.callback(self.clients[-1].kill)

    def until_more_acknowledged(self, more: int = ACKNOWLEDGED_BETWEEN_KILLS) -> None:
        """Return once every client has that many more records acknowledged; fail when one has ended."""
        wanted = [len(client.acknowledged) + more for client in self.clients]

        def reached() -> bool:
            ended = [client.name for client in self.clients if not client.alive]
            assert not ended, f"the load of {', '.join(ended)} has ended"
            return all(len(client.acknowledged) >= count for client, count in zip(self.clients, wanted, strict=True))

        try:
            wait_until(reached, _SECONDS)
        except AssertionError as error:
            still = {
                client.name: count - len(client.acknowledged)
                for client, count in zip(self.clients, wanted, strict=True)
                if len(client.acknowledged) < count
            }
            raise AssertionError(f"{error}; still to be acknowledged: {still}") from error

    def end(self) -> None:
        """Let every client finish what it has under way."""
        for client in self.clients:
            client.end()

    @property
    def acknowledged(self) -> int:
        """Records acknowledged to any of them."""
        return sum(len(client.acknowledged) for client in self.clients)
