"""Idempotent producers (KIP-98): which batch of which producer session a partition has already stored.

Per (producer id, epoch) the last five batches are remembered, as Apache Kafka does, so that a client with up to five
requests in flight may re-send any of them: a known batch is answered with its first offset, a gap is refused.

Unlike Apache Kafka, a producer id never seen here must begin at sequence 0: if its first batch was refused, taking the
second would turn the retry of the first into a lost or reordered record. Ids grow, so an id above every forgotten one
is known to be new.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.log.batch import NO_PRODUCER, BatchHeader

REMEMBERED_BATCHES: Final = 5
_SEQUENCES: Final = 1 << 31
_LARGEST_ID: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What must be known of a stored batch to recognise it when it comes again."""

    first_sequence: int
    last_sequence: int
    base_offset: int


@dataclass(slots=True)
class ProducerState:
    """One producer session on one partition: its epoch and its newest batches, oldest first."""

    epoch: int
    batches: list[StoredBatch] = field(default_factory=list)

    def find(self, first: int, last: int) -> StoredBatch | None:
        """Return the remembered batch with exactly these sequences."""
        for stored in self.batches:
            if stored.first_sequence == first and stored.last_sequence == last:
                return stored
        return None

    def remember(self, stored: StoredBatch) -> None:
        """Add the newest batch and forget the oldest beyond the limit."""
        self.batches.append(stored)
        if len(self.batches) > REMEMBERED_BATCHES:
            del self.batches[0]


def last_sequence(header: BatchHeader) -> int:
    """Return the sequence of a batch's last record; sequences wrap from 2^31 - 1 to 0."""
    return (header.base_sequence + header.last_offset_delta) % _SEQUENCES


class ProducerStates:
    """All producer sessions of one partition, bounded in number."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: OrderedDict[int, ProducerState] = OrderedDict()
        self._newest_forgotten = NO_PRODUCER

    def __len__(self) -> int:
        return len(self._states)

    def find_duplicate(self, header: BatchHeader) -> int | None:
        """Return the offset at which this very batch is already stored, or None when it is the producer's next.

        Raises:
            Refused: the epoch is stale, or the sequence leaves a gap or goes back beyond what is remembered.
        """
        if header.producer_id == NO_PRODUCER:
            return None
        state = self._states.get(header.producer_id)
        if state is None:
            self._check_first(header)
            return None
        if header.producer_epoch < state.epoch:
            raise Refused(
                ErrorCode.invalid_producer_epoch,
                f"producer {header.producer_id} has epoch {state.epoch}, the batch has {header.producer_epoch}",
            )
        if header.producer_epoch > state.epoch:
            if header.base_sequence:
                raise _out_of_order(header, expected=0)
            return None
        stored = state.find(header.base_sequence, last_sequence(header))
        if stored is not None:
            return stored.base_offset
        self._check_next(state, header)
        return None

    def _check_first(self, header: BatchHeader) -> None:
        if header.base_sequence and header.producer_id > self._newest_forgotten:
            raise _out_of_order(header, expected=0)

    def _check_next(self, state: ProducerState, header: BatchHeader) -> None:
        expected = (state.batches[-1].last_sequence + 1) % _SEQUENCES
        if header.base_sequence == expected:
            return
        oldest = state.batches[0].first_sequence
        if (oldest - header.base_sequence) % _SEQUENCES < _SEQUENCES // 2 and oldest != header.base_sequence:
            raise Refused(
                ErrorCode.duplicate_sequence_number,
                f"producer {header.producer_id} sent sequence {header.base_sequence} again, stored long before",
            )
        raise _out_of_order(header, expected)

    def record(self, header: BatchHeader, base_offset: int) -> None:
        """Remember a batch that is now stored at ``base_offset``."""
        if header.producer_id == NO_PRODUCER:
            return
        state = self._states.get(header.producer_id)
        if state is None or state.epoch != header.producer_epoch:
            state = self._states[header.producer_id] = ProducerState(header.producer_epoch)
        state.remember(StoredBatch(header.base_sequence, last_sequence(header), base_offset))
        self._states.move_to_end(header.producer_id)
        while len(self._states) > self._limit:
            forgotten, _ = self._states.popitem(last=False)
            self._newest_forgotten = max(self._newest_forgotten, forgotten)

    def forget_all(self) -> None:
        """Start without knowledge: who is not known here may have been, so no first sequence is a gap any more."""
        self._states.clear()
        self._newest_forgotten = _LARGEST_ID

    def snapshot(self) -> dict[str, object]:
        """Return the state as JSON values, least recently used producer first; ``restore`` takes it back."""
        return {
            "newest_forgotten": self._newest_forgotten,
            "producers": [
                [identifier, state.epoch, [[b.first_sequence, b.last_sequence, b.base_offset] for b in state.batches]]
                for identifier, state in self._states.items()
            ],
        }

    def restore(self, snapshot: dict[str, object]) -> None:
        """Replace everything known by what ``snapshot`` returned."""
        newest_forgotten, producers = snapshot["newest_forgotten"], snapshot["producers"]
        if not isinstance(newest_forgotten, int) or not isinstance(producers, list):
            raise TypeError("not a snapshot of producer states")
        self._newest_forgotten = newest_forgotten
        self._states = OrderedDict(
            (identifier, ProducerState(epoch, [StoredBatch(*batch) for batch in batches]))
            for identifier, epoch, batches in producers
        )


def _out_of_order(header: BatchHeader, expected: int) -> Refused:
    return Refused(
        ErrorCode.out_of_order_sequence_number,
        f"producer {header.producer_id} epoch {header.producer_epoch} sent sequence {header.base_sequence}, "
        f"expected {expected}: an earlier batch is missing",
    )
