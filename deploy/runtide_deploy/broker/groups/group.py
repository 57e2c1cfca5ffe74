"""The state machine of one consumer group, after Apache Kafka's classic group coordinator.

Empty → PreparingRebalance (members join) → CompletingRebalance (the leader assigns) → Stable; any change of members
goes back to PreparingRebalance.
"""

import asyncio
import enum
from collections import Counter
from collections.abc import Iterable, Mapping

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.groups.member import Joined, Member, Protocols, Synced


class GroupState(enum.Enum):
    """States by the names that DescribeGroups reports."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    """One group's members and where it is in its rebalance.

    Attributes:
        generation: grows by one with each completed rebalance.
        pending: member ids given out whose owners have not joined with them yet (KIP-394), with their timers.
    """

    def __init__(self, group_id: str, initial_delay: float) -> None:
        self.id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.leader = ""
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.members: dict[str, Member] = {}
        self.pending: dict[str, asyncio.TimerHandle] = {}
        self._initial_delay = initial_delay
        self._timer: asyncio.TimerHandle | None = None
        self._is_initial = False

    @property
    def is_dead(self) -> bool:
        """True when nobody is in it and nobody is about to be."""
        return self.state is GroupState.EMPTY and not self.members and not self.pending

    def static_member(self, instance_id: str | None) -> Member | None:
        """Return the member with a group instance id (KIP-345)."""
        if instance_id is None:
            return None
        return next((member for member in self.members.values() if member.instance_id == instance_id), None)

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Return whether a member with these protocols can be in this group with the others."""
        if not self.members:
            return bool(protocols and protocol_type)
        names = {name for name, _ in protocols}
        return protocol_type == self.protocol_type and bool(names & self._common_protocols())

    def _common_protocols(self) -> set[str]:
        sets = [{name for name, _ in member.protocols} for member in self.members.values()]
        return set.intersection(*sets) if sets else set()

    def give_out(self, member_id: str, seconds: float) -> None:
        """Expect somebody to join with a member id that was just made, for so long."""
        loop = asyncio.get_running_loop()
        self.pending[member_id] = loop.call_later(seconds, self.forget_pending, member_id)

    def forget_pending(self, member_id: str) -> bool:
        """Stop expecting a member id; False when it was not expected."""
        timer = self.pending.pop(member_id, None)
        if timer is None:
            return False
        timer.cancel()
        self._complete_if_all_joined()
        return True

    def add(self, member: Member, protocol_type: str) -> None:
        """Take a new member in and rebalance."""
        timer = self.pending.pop(member.id, None)
        if timer is not None:
            timer.cancel()
        if not self.members:
            self.protocol_type = protocol_type
        self.members[member.id] = member
        self.leader = self.leader or member.id
        self.rebalance()

    def rebalance(self) -> None:
        """Ask all members to join again, or go on waiting for them."""
        if self.state is GroupState.COMPLETING:
            for member in self.members.values():
                self._interrupt_sync(member)
        if self.state is not GroupState.PREPARING:
            self._is_initial = self.state is GroupState.EMPTY
            self.state = GroupState.PREPARING
            self._start_timer()
        self._complete_if_all_joined()

    def _interrupt_sync(self, member: Member) -> None:
        if member.syncing is not None:
            member.answer_sync(Synced(ErrorCode.rebalance_in_progress))
            member.expect_heartbeat(self.expire)

    def _start_timer(self) -> None:
        self._stop_timer()
        seconds = self._initial_delay if self._is_initial else self._longest_rebalance()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._complete_join)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _longest_rebalance(self) -> float:
        return max((member.rebalance_timeout for member in self.members.values()), default=0.0)

    def _complete_if_all_joined(self) -> None:
        # The first generation waits its delay out: members that start together should not rebalance one by one.
        if self.state is not GroupState.PREPARING or self._is_initial or self.pending:
            return
        if all(member.joining is not None for member in self.members.values()):
            self._complete_join()

    def _complete_join(self) -> None:
        self._stop_timer()
        self._is_initial = False
        for member in [m for m in self.members.values() if m.joining is None and m.instance_id is None]:
            self._drop(member)
        if not self.members:
            self._become_empty()
            return
        self.generation += 1
        self.protocol = self._choose_protocol()
        if self.members[self.leader].joining is None:
            self.leader = next((m.id for m in self.members.values() if m.joining is not None), self.leader)
        self.state = GroupState.COMPLETING
        for member in self.members.values():
            member.answer_join(self.joined(member))
            member.expect_heartbeat(self.expire)
        self._timer = asyncio.get_running_loop().call_later(self._longest_rebalance(), self._drop_unsynced)

    def joined(self, member: Member) -> Joined:
        """Return the answer to a member's JoinGroup for the current generation."""
        others = self.members.values() if member.id == self.leader else ()
        return Joined(
            error=ErrorCode.none,
            member_id=member.id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader,
            members=tuple((other.id, other.instance_id, other.metadata(self.protocol)) for other in others),
        )

    def _choose_protocol(self) -> str:
        common = self._common_protocols()
        votes = Counter(
            next(name for name, _ in member.protocols if name in common) for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def _drop_unsynced(self) -> None:
        """End the wait for a leader, or a follower, that joined and then never synced."""
        self._timer = None
        late = [member for member in self.members.values() if member.syncing is None]
        if self.state is GroupState.COMPLETING and late:
            self.remove(late)

    def assign(self, assignments: Mapping[str, bytes]) -> None:
        """Take the leader's assignment and answer all who wait for it."""
        self._stop_timer()
        self.state = GroupState.STABLE
        for member in self.members.values():
            member.assignment = assignments.get(member.id, b"")
            if member.syncing is not None:
                member.answer_sync(self.synced(member))
                member.expect_heartbeat(self.expire)

    def synced(self, member: Member) -> Synced:
        """Return a member's assignment in the current generation."""
        return Synced(ErrorCode.none, member.assignment, self.protocol_type, self.protocol)

    def expire(self, member: Member) -> None:
        """Remove a member whose session timed out, unless it is us whom it waits for."""
        if member.joining is None and member.syncing is None and self.members.get(member.id) is member:
            self.remove([member])

    def remove(self, members: Iterable[Member]) -> None:
        """Remove members and rebalance the rest."""
        for member in tuple(members):
            self._drop(member)
        if self.members:
            self.rebalance()
        else:
            self._become_empty()

    def replace(self, old: Member, new: Member) -> None:
        """Put a restarted static member in its predecessor's place."""
        old.forget_heartbeat()
        self.members = {(new.id if m is old else m.id): (new if m is old else m) for m in self.members.values()}
        if self.leader == old.id:
            self.leader = new.id

    def _drop(self, member: Member) -> None:
        del self.members[member.id]
        member.forget_heartbeat()
        member.answer_join(Joined(ErrorCode.unknown_member_id, member.id))
        member.answer_sync(Synced(ErrorCode.unknown_member_id))
        if self.leader == member.id:
            self.leader = next(iter(self.members), "")

    def _become_empty(self) -> None:
        self._stop_timer()
        if self.state is not GroupState.EMPTY:
            self.generation += 1
        self.state, self.protocol, self.protocol_type, self.leader = GroupState.EMPTY, None, None, ""

    def close(self) -> None:
        """Stop all timers."""
        self._stop_timer()
        for timer in self.pending.values():
            timer.cancel()
        for member in self.members.values():
            member.forget_heartbeat()
