"""What is done to the services, and when: drawn from a seed, so that the same seed does the same again."""

from dataclasses import dataclass
from random import Random

KILL, FREEZE, BURY, RIVAL = "kill", "freeze", "bury", "rival"
"""SIGKILL; SIGSTOP and later SIGCONT; SIGSTOP and later SIGKILL; a second projector over the same store."""
STORES = ("projector-postgres", "projector-duckdb")
SERVICES = (*STORES, *STORES, "postgres", "broker", "broker", "registrar", "gateway")
"""What is struck; what matters most is there more than once."""
_ACTIONS = (KILL, KILL, KILL, FREEZE, BURY)
_LONGEST_PAUSE_S = 8.0
_LONGEST_FREEZE_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something done to a service, so many seconds after the start; what is undone later is so after ``lasts`` seconds."""

    at: float
    action: str
    service: str
    lasts: float

    def __str__(self) -> str:
        later = f" for {self.lasts:.1f} s" if self.action != KILL else ""
        return f"{self.at:6.1f} s  {self.action} {self.service}{later}"


def draw_plan(random: Random, seconds: float) -> list[Fault]:
    """Return faults for so many seconds, several of which may be at work at once."""
    faults: list[Fault] = []
    at = random.uniform(1, 4)
    while at < seconds:
        service = random.choice(SERVICES)
        action = random.choice((*_ACTIONS, RIVAL)) if service in STORES else random.choice(_ACTIONS)
        faults.append(Fault(at, action, service, random.uniform(0.2, _LONGEST_FREEZE_S)))
        at += random.uniform(0.3, _LONGEST_PAUSE_S)
    return faults
