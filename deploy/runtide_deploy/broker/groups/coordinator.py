"""What consumer group requests do to groups. Answers are Kafka's codes, as its classic coordinator gives them."""

import asyncio
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.groups.group import Group, GroupState
from runtide_deploy.broker.groups.member import Joined, Member, Protocols, Synced
from runtide_deploy.broker.groups.offsets import OffsetStore
from runtide_deploy.broker.settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Join:
    """A JoinGroup request; time-outs are milliseconds."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    must_know_id: bool
    """The client can take a member id and come back with it (KIP-394)."""


@dataclass(frozen=True, slots=True)
class MemberClaim:
    """Who a request says it comes from."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int


class GroupCoordinator:
    """All groups of the broker, and the store of their offsets."""

    def __init__(self, settings: BrokerSettings, offsets: OffsetStore) -> None:
        self._settings = settings
        self.offsets = offsets
        self._groups: dict[str, Group] = {}

    def groups(self) -> dict[str, Group]:
        """Return every group with members or offsets, by id."""
        self._forget_dead()
        for group_id in self.offsets.group_ids():
            self._group(group_id)
        return self._groups

    def find(self, group_id: str) -> Group | None:
        """Return a group with members or offsets, None when there is none."""
        if group_id not in self._groups and self.offsets.has_group(group_id):
            return self._group(group_id)
        return self._groups.get(group_id)

    def _group(self, group_id: str) -> Group:
        group = self._groups.get(group_id)
        if group is None:
            self._forget_dead()
            delay = self._settings.initial_rebalance_delay_ms / 1000
            group = self._groups[group_id] = Group(group_id, delay)
        return group

    def _check_room(self, group_id: str) -> None:
        """Refuse one group more than there may be; clients take the code as final."""
        if group_id in self._groups or self.offsets.has_group(group_id):
            return
        self._forget_dead()
        known = self._groups.keys() | set(self.offsets.group_ids())
        if len(known) >= self._settings.max_groups:
            raise Refused(
                ErrorCode.group_max_size_reached,
                f"there are {len(known)} groups, the limit (RUNTIDE_BROKER_MAX_GROUPS); delete those no longer used",
            )

    def _forget_dead(self) -> None:
        """Drop groups that have neither members nor offsets, so that passing names do not pile up."""
        for group_id, group in tuple(self._groups.items()):
            if group.is_dead and not self.offsets.has_group(group_id):
                del self._groups[group_id]

    def join(self, join: Join) -> Joined | Awaitable[Joined]:
        """Take a member in, now or when the rebalance completes.

        Raises:
            Refused: with Kafka's code for the case.
        """
        self._check_join(join)
        self._check_room(join.group_id)
        group = self._group(join.group_id)
        if not group.supports(join.protocol_type, join.protocols):
            raise Refused(ErrorCode.inconsistent_group_protocol, f"no assignor in common in group {group.id!r}")
        if join.member_id:
            return self._join_known(group, join)
        if (static := group.static_member(join.instance_id)) is not None:
            return self._replace_static(group, static, join)
        self._check_size(group)
        member_id = f"{join.client_id or 'member'}-{uuid.uuid4()}"
        if join.must_know_id and join.instance_id is None:
            group.give_out(member_id, join.session_timeout_ms / 1000)
            return Joined(ErrorCode.member_id_required, member_id)
        return self._add(group, join, member_id)

    def _check_join(self, join: Join) -> None:
        if not join.group_id:
            raise Refused(ErrorCode.invalid_group_id, "the group id is empty")
        settings = self._settings
        if not settings.min_session_timeout_ms <= join.session_timeout_ms <= settings.max_session_timeout_ms:
            raise Refused(
                ErrorCode.invalid_session_timeout,
                f"session time-out {join.session_timeout_ms} ms is not within "
                f"{settings.min_session_timeout_ms} to {settings.max_session_timeout_ms}",
            )

    def _check_size(self, group: Group) -> None:
        if len(group.members) + len(group.pending) >= self._settings.max_group_size:
            raise Refused(ErrorCode.group_max_size_reached, f"group {group.id!r} is full (max_group_size)")

    def _join_known(self, group: Group, join: Join) -> Joined | Awaitable[Joined]:
        if join.member_id in group.pending:
            return self._add(group, join, join.member_id)
        member = self._member(group, join.member_id, join.instance_id)
        unchanged = member.protocols == join.protocols
        if group.state is GroupState.COMPLETING and unchanged:
            return group.joined(member)
        if group.state is GroupState.STABLE and unchanged and member.id != group.leader:
            return group.joined(member)
        _update(member, join)
        waiting = _wait_to_join(member)
        group.rebalance()
        return waiting

    def _replace_static(self, group: Group, old: Member, join: Join) -> Joined | Awaitable[Joined]:
        """Let a restarted static member take its predecessor's place, without a rebalance when nothing else changed."""
        member = _new_member(join, f"{join.instance_id}-{uuid.uuid4()}")
        member.assignment = old.assignment
        old.answer_join(Joined(ErrorCode.fenced_instance_id, old.id))
        old.answer_sync(Synced(ErrorCode.fenced_instance_id))
        group.replace(old, member)
        if group.state is GroupState.STABLE and old.protocols == member.protocols:
            member.expect_heartbeat(group.expire)
            return group.joined(member)
        waiting = _wait_to_join(member)
        group.rebalance()
        return waiting

    def _add(self, group: Group, join: Join, member_id: str) -> Awaitable[Joined]:
        member = _new_member(join, member_id)
        waiting = _wait_to_join(member)
        group.add(member, join.protocol_type)
        return waiting

    def sync(
        self, claim: MemberClaim, assignments: Mapping[str, bytes], protocol_type: str | None, protocol: str | None
    ) -> Synced | Awaitable[Synced]:
        """Give a member its assignment, now or when the leader has sent it.

        Raises:
            Refused: with Kafka's code for the case.
        """
        group, member = self._claimed(claim)
        if _differs(protocol_type, group.protocol_type) or _differs(protocol, group.protocol):
            raise Refused(ErrorCode.inconsistent_group_protocol, f"group {group.id!r} uses {group.protocol!r}")
        if group.state is GroupState.PREPARING:
            raise Refused(ErrorCode.rebalance_in_progress, f"group {group.id!r} is rebalancing")
        if group.state is GroupState.STABLE:
            member.expect_heartbeat(group.expire)
            return group.synced(member)
        waiting: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        member.answer_sync(Synced(ErrorCode.rebalance_in_progress))
        member.syncing = waiting
        member.forget_heartbeat()
        if member.id == group.leader:
            group.assign(assignments)
        return waiting

    def heartbeat(self, claim: MemberClaim) -> None:
        """Keep a member's session alive.

        Raises:
            Refused: REBALANCE_IN_PROGRESS asks it to join again; others say that it is not a member any more.
        """
        group, member = self._claimed(claim)
        if member.joining is None and member.syncing is None:
            member.expect_heartbeat(group.expire)
        if group.state is GroupState.PREPARING:
            raise Refused(ErrorCode.rebalance_in_progress, f"group {group.id!r} is rebalancing")

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> None:
        """Remove a member at its own, or an operator's, wish.

        Raises:
            Refused: there is no such member.
        """
        group = self._existing(group_id)
        if member_id in group.pending:
            group.forget_pending(member_id)
            return
        if not member_id and (static := group.static_member(instance_id)) is not None:
            member_id = static.id
        group.remove([self._member(group, member_id, instance_id)])

    def check_commit(self, claim: MemberClaim) -> None:
        """Check that somebody may commit offsets for a group.

        Raises:
            Refused: it is not a current member of a group that has members.
        """
        if not claim.group_id:
            raise Refused(ErrorCode.invalid_group_id, "the group id is empty")
        self._check_room(claim.group_id)
        group = self._groups.get(claim.group_id)
        if claim.generation < 0 and (group is None or group.state is GroupState.EMPTY):
            return
        group, member = self._claimed(claim)
        if group.state is GroupState.COMPLETING:
            raise Refused(ErrorCode.rebalance_in_progress, f"group {group.id!r} is rebalancing")
        if member.joining is None:
            member.expect_heartbeat(group.expire)

    def delete(self, group_id: str) -> None:
        """Delete an empty group and its offsets.

        Raises:
            Refused: there is no such group, or it has members.
        """
        group = self.find(group_id)
        if group is None:
            raise Refused(ErrorCode.group_id_not_found, f"there is no group {group_id!r}")
        if group.state is not GroupState.EMPTY:
            raise Refused(ErrorCode.non_empty_group, f"group {group_id!r} has {len(group.members)} members")
        self.offsets.delete_group(group_id)
        group.close()
        del self._groups[group_id]

    def _claimed(self, claim: MemberClaim) -> tuple[Group, Member]:
        group = self._existing(claim.group_id)
        member = self._member(group, claim.member_id, claim.instance_id)
        if claim.generation != group.generation:
            raise Refused(
                ErrorCode.illegal_generation, f"group {group.id!r} is at generation {group.generation}, not this one"
            )
        return group, member

    def _existing(self, group_id: str) -> Group:
        if not group_id:
            raise Refused(ErrorCode.invalid_group_id, "the group id is empty")
        group = self._groups.get(group_id)
        if group is None:
            raise Refused(ErrorCode.unknown_member_id, f"group {group_id!r} has no members")
        return group

    def _member(self, group: Group, member_id: str, instance_id: str | None) -> Member:
        static = group.static_member(instance_id)
        if static is not None and static.id != member_id:
            raise Refused(ErrorCode.fenced_instance_id, f"another process has joined as instance {instance_id!r}")
        member = group.members.get(member_id)
        if member is None or (instance_id is not None and static is None):
            raise Refused(ErrorCode.unknown_member_id, f"{member_id!r} is no member of group {group.id!r}; join again")
        return member

    def close(self) -> None:
        """Stop all timers."""
        for group in self._groups.values():
            group.close()


def _differs(said: str | None, actual: str | None) -> bool:
    return said is not None and said != actual


def _new_member(join: Join, member_id: str) -> Member:
    member = Member(member_id, join.instance_id, join.client_id, join.client_host, 0, 0, ())
    _update(member, join)
    return member


def _update(member: Member, join: Join) -> None:
    member.session_timeout = join.session_timeout_ms / 1000
    # Version 0 had no rebalance time-out and used the session's.
    ours = join.rebalance_timeout_ms if join.rebalance_timeout_ms >= 0 else join.session_timeout_ms
    member.rebalance_timeout = ours / 1000
    member.protocols = join.protocols


def _wait_to_join(member: Member) -> Awaitable[Joined]:
    member.answer_join(Joined(ErrorCode.unknown_member_id, member.id))
    member.forget_heartbeat()
    member.joining = asyncio.get_running_loop().create_future()
    return member.joining
