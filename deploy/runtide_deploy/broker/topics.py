"""The topics of the broker: their durable list, their configuration and their partitions' logs."""

import json
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.deleted_folders import DeletedFolders
from runtide_deploy.broker.durable_file import replace_file, sync_folder
from runtide_deploy.broker.errors import CannotStart, DamagedLog, Refused
from runtide_deploy.broker.log.group_commit import GroupCommit
from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.settings import BrokerSettings
from runtide_deploy.broker.topic_config import check_config, limits_of

_NAMED_STRAYS: Final = 20
logger = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")


@dataclass(slots=True)
class Topic:
    """One topic; partitions are numbered by their place in the list."""

    name: str
    id: uuid.UUID
    config: dict[str, str]
    partitions: list[PartitionLog]

    def max_message_bytes(self, default: int) -> int:
        """Return the largest batch this topic takes."""
        return int(self.config.get("max.message.bytes", default))


class Topics:
    """All topics; the only owner of ``topics.json`` and of the folder ``topics/``."""

    def __init__(self, folder: Path, settings: BrokerSettings, commit: GroupCommit) -> None:
        self._file = folder / "topics.json"
        self._folder = folder / "topics"
        self._settings = settings
        self._commit = commit
        self._topics: dict[str, Topic] = {}
        self._deleted = DeletedFolders(folder / "deleted")

    def open(self) -> None:
        """Open every partition that the durable list names.

        Raises:
            CannotStart: the list is damaged, or missing.
        """
        self._folder.mkdir(exist_ok=True)
        self._check_list_is_there()
        self._deleted.open()
        for listed in read_list(self._file):
            logs = [self._open(listed.name, number, listed.config) for number in range(listed.partitions)]
            self._topics[listed.name] = Topic(listed.name, listed.id, listed.config, logs)
        self._name_strays()

    def _check_list_is_there(self) -> None:
        """Refuse to take the records of topics for leftovers: a topic that is created anew would remove them."""
        if not self._file.exists() and any(log.stat().st_size for log in self._folder.glob("*/*.log")):
            raise CannotStart(f"{self._file} is missing beside topics that hold records; restore it from a copy")

    def _name_strays(self) -> None:
        """Name folders that no topic owns; they stay, since it may be the list that is wrong, restored from a copy."""
        owned = {log.folder.name for topic in self._topics.values() for log in topic.partitions}
        strays = sorted(path.name for path in self._folder.iterdir() if path.name not in owned)
        if strays:
            logger.warning(
                "%s holds what no topic of %s owns: %s; a crash while topics were created or deleted leaves such folders, "
                "which may be removed",
                self._folder,
                self._file.name,
                ", ".join(strays[:_NAMED_STRAYS]) + (" …" if len(strays) > _NAMED_STRAYS else ""),
            )

    def close(self) -> None:
        """Note of every partition how it ends, so that the next start is quick; nothing may be written any more."""
        for topic in self._topics.values():
            for log in topic.partitions:
                log.close()

    def _open(self, name: str, number: int, config: Mapping[str, str]) -> PartitionLog:
        log = self._log(name, number, config)
        try:
            log.open()
        except (DamagedLog, OSError) as error:
            log.refuse(str(error))
        return log

    def _create(self, name: str, number: int, config: Mapping[str, str]) -> PartitionLog:
        log = self._log(name, number, config)
        log.create()
        return log

    def _log(self, name: str, number: int, config: Mapping[str, str]) -> PartitionLog:
        folder = self._folder / f"{name}-{number}"
        limits = limits_of(config, self._settings)
        return PartitionLog(folder, limits, self._settings.producer_states, self._commit)

    def __iter__(self) -> Iterator[Topic]:
        return iter(tuple(self._topics.values()))

    def find(self, name: str) -> Topic | None:
        """Return a topic, None when there is none of that name."""
        return self._topics.get(name)

    def find_by_id(self, identifier: uuid.UUID) -> Topic | None:
        """Return a topic by its id, None when there is none."""
        return next((topic for topic in self._topics.values() if topic.id == identifier), None)

    def existing(self, name: str) -> Topic:
        """Return a topic.

        Raises:
            Refused: UNKNOWN_TOPIC_OR_PARTITION.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise Refused(ErrorCode.unknown_topic_or_partition, f"there is no topic {name!r}")
        return topic

    def partition(self, name: str, number: int) -> PartitionLog:
        """Return a partition's log.

        Raises:
            Refused: UNKNOWN_TOPIC_OR_PARTITION.
        """
        topic = self._topics.get(name)
        if topic is None or not 0 <= number < len(topic.partitions):
            raise Refused(ErrorCode.unknown_topic_or_partition, f"there is no partition {number} of topic {name!r}")
        return topic.partitions[number]

    def check_new(self, name: str, partitions: int, config: Mapping[str, str | None]) -> dict[str, str]:
        """Return the configuration a new topic would get.

        Raises:
            Refused: the name, the number of partitions or a configuration is not acceptable, or it exists.
        """
        if not _NAME.match(name) or name in {".", ".."}:
            raise Refused(
                ErrorCode.invalid_topic_exception,
                f"topic name {name!r}: use 1 to 249 letters, digits, '.', '_' and '-'",
            )
        if name in self._topics:
            raise Refused(ErrorCode.topic_already_exists, f"topic {name!r} exists")
        self._check_partitions(partitions)
        return check_config(config)

    def _check_partitions(self, more: int) -> None:
        if more < 1:
            raise Refused(ErrorCode.invalid_partitions, f"a topic needs at least one partition, {more} were asked for")
        held = sum(len(topic.partitions) for topic in self._topics.values())
        if held + more > self._settings.max_partitions:
            raise Refused(
                ErrorCode.invalid_partitions,
                f"{held} partitions exist, {more} more would pass the limit of {self._settings.max_partitions} "
                "(RUNTIDE_BROKER_MAX_PARTITIONS)",
            )

    def create(self, name: str, partitions: int, config: Mapping[str, str | None]) -> Topic:
        """Create a topic durably.

        Raises:
            Refused: see ``check_new``; or the disk refuses (KAFKA_STORAGE_ERROR).
        """
        checked = self.check_new(name, partitions, config)
        try:
            self._remove_leftovers(name)
            logs = [self._create(name, number, checked) for number in range(partitions)]
            sync_folder(self._folder)
            self._topics[name] = Topic(name, uuid.uuid4(), checked, logs)
            self._save()
        except OSError as error:
            self._topics.pop(name, None)
            raise _cannot_store(error) from error
        return self._topics[name]

    def _remove_leftovers(self, name: str) -> None:
        """Remove folders of a deleted topic that a crash left behind: they are in no list."""
        for folder in self._folder.glob(f"{name}-*"):
            if folder.name.removeprefix(f"{name}-").isdecimal():
                self._deleted.take(folder)

    def add_partitions(self, name: str, total: int, *, validate_only: bool) -> None:
        """Raise the number of a topic's partitions to ``total``, durably.

        Raises:
            Refused: no such topic, not more than there are, or too many.
        """
        topic = self.existing(name)
        present = len(topic.partitions)
        if total <= present:
            raise Refused(
                ErrorCode.invalid_partitions, f"topic {name!r} has {present} partitions, {total} are not more"
            )
        self._check_partitions(total - present)
        if validate_only:
            return
        try:
            topic.partitions.extend(self._create(name, number, topic.config) for number in range(present, total))
            sync_folder(self._folder)
            self._save()
        except OSError as error:
            del topic.partitions[present:]
            raise _cannot_store(error) from error

    def configure(self, configs: Mapping[str, dict[str, str]]) -> None:
        """Give topics other configurations, durably and all or none; they are in force from then on.

        Args:
            configs: of topics that exist, as ``check_config`` returned them. However many, they are one write.

        Raises:
            Refused: the disk refuses.
        """
        before = {name: self._topics[name].config for name in configs}
        if before == configs:
            return
        for name, config in configs.items():
            self._topics[name].config = config
        try:
            self._save()
        except OSError as error:
            for name, config in before.items():
                self._topics[name].config = config
            raise _cannot_store(error) from error
        for name, config in configs.items():
            for log in self._topics[name].partitions:
                log.limits = limits_of(config, self._settings)

    def delete(self, name: str) -> None:
        """Delete a topic and its files; the list goes first, so a crash leaves only folders that nobody lists.

        The files are moved aside before it returns and removed after: a large topic takes its time.

        Raises:
            Refused: no such topic, or the disk refuses.
        """
        topic = self.existing(name)
        del self._topics[name]
        try:
            self._save()
        except OSError as error:
            self._topics[name] = topic
            raise _cannot_store(error) from error
        for log in topic.partitions:
            log.retire()
            try:
                self._deleted.take(log.folder)
            except OSError as error:
                logger.warning("cannot move %s of a deleted topic aside; it may be removed: %s", log.folder, error)

    def _save(self) -> None:
        listed = {
            topic.name: {"id": str(topic.id), "partitions": len(topic.partitions), "config": topic.config}
            for topic in self._topics.values()
        }
        replace_file(self._file, json.dumps(listed, indent=1).encode())


class ListedTopic(NamedTuple):
    """A topic as ``topics.json`` names it; ``partitions`` is their number."""

    name: str
    id: uuid.UUID
    config: dict[str, str]
    partitions: int


def read_list(file: Path) -> list[ListedTopic]:
    """Return the topics that a ``topics.json`` lists; a missing one lists none.

    Raises:
        CannotStart: it is damaged.
    """
    if not file.exists():
        return []
    try:
        return [
            ListedTopic(name, uuid.UUID(entry["id"]), dict(entry["config"]), int(entry["partitions"]))
            for name, entry in json.loads(file.read_bytes()).items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotStart(f"{file} is damaged ({error}); restore it from a copy") from error


def _cannot_store(error: OSError) -> Refused:
    return Refused(ErrorCode.kafka_storage_error, f"cannot store the list of topics: {error}; free space and retry")
