"""Giving the log's room back: records go (DeleteRecords) that the archive has and every projection has applied."""

import asyncio
from collections.abc import Collection, Iterable, Mapping

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from runtide.kafka import KafkaSettings, cluster_id, describe, explained
from runtide.kafka_settings import client_options
from runtide_consumers.archive.bounds import log_bounds
from runtide_consumers.archive.manifest import Archive
from runtide_consumers.archive.seam import check_seams, last_record
from runtide_consumers.archive.verifying import check_file
from runtide_consumers.projection import TopicPartition
from runtide_schemas.topics import TOPICS

DELETED_FROM = frozenset(topic.name for topic in TOPICS.values() if not topic.ordered)
"""The small topics of one order stay: registrar and deployer read them from the beginning whenever they start."""

Positions = Mapping[TopicPartition, int]
OfSome = tuple[Collection[str], Positions]


async def delete_archived(
    kafka: KafkaSettings,
    location: str,
    topics: Collection[str],
    positions: Iterable[Positions],
    of_some: Iterable[OfSome] = (),
) -> dict[TopicPartition, int]:
    """Delete from the log what lies in an archive; return how many offsets went from each partition.

    The files are read back first, and the log has to be the one that was archived. Nothing goes that one of the named
    projections has not applied, nor a record that the archive could keep no more than the offset of, nor a partition's last
    archived record, by which the two are known to belong together, nor anything of the ordered topics.

    Args:
        kafka: where the log is.
        location: path or URI of the archive.
        topics: which topics.
        positions: the next offset of every partition, of each projection that counts. Nothing is known here of others: one
            that is not named, and reads no archive, may find its next record gone.
        of_some: projections that follow some topics only: which, and where they stand.

    Raises:
        ArchiveDamaged: it is not whole; nothing was deleted.
        InvalidRequest: it is of another log, or has records that this log has not; nothing was deleted.
        TransientError: the log or the store is away.
    """
    archive = await asyncio.to_thread(Archive.load, location, await cluster_id(kafka))
    bounds = await log_bounds(kafka, DELETED_FROM & set(topics))
    await check_seams(kafka, archive, bounds)
    needed = [(topics, one) for one in positions] + list(of_some)
    wanted = {}
    for place, span in bounds.items():
        end = min(
            [_safe_end(archive, place), *(one.get(place, 0) for followed, one in needed if place.topic in followed)]
        )
        if end > span.begin:
            await asyncio.to_thread(_check, archive, place, span.begin, end)
            wanted[place] = end
    begins = await _delete(kafka, wanted)
    return {place: begins[place] - bounds[place].begin for place in wanted}


def _safe_end(archive: Archive, place: TopicPartition) -> int:
    last, end = last_record(archive, place), 0
    for file in archive.files(place):
        if file.unreadable:
            break
        end = file.next_offset
    return min(end, last[0]) if last else 0


def _check(archive: Archive, place: TopicPartition, begin: int, end: int) -> None:
    for file in archive.files(place):
        if file.first_offset < end and file.next_offset > begin:
            check_file(archive, file)


async def _delete(kafka: KafkaSettings, wanted: Positions) -> dict[TopicPartition, int]:
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        moves = {KafkaPartition(*place): RecordsToDelete(before_offset=end) for place, end in wanted.items()}
        found = await admin.delete_records(moves) if moves else {}
    except (KafkaError, OSError, TimeoutError) as error:
        raise await explained(kafka, f"cannot delete records at {kafka.bootstrap}: {describe(error)}") from error
    finally:
        await admin.close()
    return {TopicPartition(*place): begin for place, begin in found.items()}
