"""What a store has to offer to be rebuilt: the live one as it stands, a new one beside it, and the exchange of the two."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runtide_consumers.projection import Projection, TopicPartition
from runtide_consumers.rebuild.comparison import EntityDigests, Share
from runtide_schemas.errors import TransientError

Positions = Mapping[TopicPartition, int]


class Busy(TransientError):
    """Readers are in the way of the exchange for the moment; the live projector goes on meanwhile."""


class Frozen(Protocol):
    """The live store at one moment, while it goes on."""

    @property
    def positions(self) -> Positions:
        """Where it stood."""

    @property
    def digests(self) -> EntityDigests:
        """What it said."""


class Halted(Protocol):
    """The live store while its projector waits."""

    @property
    def positions(self) -> Positions:
        """Where it stands, until the halt ends."""

    async def swap(self) -> None:
        """Put the new store in the live one's place, at once for everyone, and keep the live one to go back to.

        Raises:
            Busy: readers are in the way; nothing has changed.
        """


class RebuildableStore(Protocol):
    """A store of which another can be folded beside it."""

    @property
    def name(self) -> str:
        """Its name, for people."""

    @property
    def layout_version(self) -> int:
        """The layout that this program writes."""

    @property
    def shares(self) -> Sequence[Share]:
        """Which rows of it belong to which entities."""

    @property
    def code(self) -> Sequence[str]:
        """Modules or packages beside ours whose code folds."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Keep other rebuilds out.

        Raises:
            FatalError: another one is at work.
        """

    async def live_version(self) -> int | None:
        """Return the layout version of the live store; None when there is none."""

    async def live_positions(self) -> Positions:
        """Return where the live store stands now."""

    async def prepare(self, made_by: str) -> bool:
        """Make room for the new store; return whether one that was left unfinished is taken up again.

        That is so when it says that ``made_by``, the very same code and log, was at work on it, and it is not ahead of the
        live store; else it is removed.
        """

    def new(self) -> Projection:
        """Return the projection into the new store, not opened."""

    async def new_positions(self) -> Positions:
        """Return where the new store stands."""

    def frozen(self) -> AbstractAsyncContextManager[Frozen]:
        """Hold on to what the live store says at one moment."""

    def rebuilt(self) -> AbstractAsyncContextManager[EntityDigests]:
        """Read the new store, which nobody writes meanwhile."""

    def halted(self) -> AbstractAsyncContextManager[Halted]:
        """Let the live store's projector wait; it goes on, or is told of the swap, at the end."""

    async def roll_back(self) -> None:
        """Put the store that the last swap replaced in the live one's place again, and keep that one.

        Raises:
            InvalidRequest: there is none, or this program cannot write it.
        """
