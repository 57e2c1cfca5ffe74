"""Idempotence: which batches are new, which are known, which are refused."""

import pytest
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.log.batch import BatchHeader, read_header
from runtide_deploy.broker.log.producers import ProducerStates
from tests.broker_batches import make_batch


def header(sequence: int, count: int = 1, producer_id: int = 9, epoch: int = 0) -> BatchHeader:
    return read_header(make_batch(*[b"v"] * count, producer_id=producer_id, epoch=epoch, sequence=sequence))


def states_with(*sequences: int, limit: int = 100) -> ProducerStates:
    states = ProducerStates(limit)
    for offset, sequence in enumerate(sequences):
        assert states.find_duplicate(header(sequence)) is None
        states.record(header(sequence), offset)
    return states


def refusal(states: ProducerStates, batch: BatchHeader) -> ErrorCode:
    with pytest.raises(Refused) as refused:
        states.find_duplicate(batch)
    return refused.value.code


def test_the_last_five_batches_are_recognised() -> None:
    states = states_with(0, 1, 2, 3, 4, 5)
    assert [states.find_duplicate(header(sequence)) for sequence in range(1, 6)] == [1, 2, 3, 4, 5]
    assert refusal(states, header(0)) is ErrorCode.duplicate_sequence_number


def test_a_gap_is_refused_and_the_expected_batch_is_not() -> None:
    states = states_with(0, 1)
    assert refusal(states, header(3)) is ErrorCode.out_of_order_sequence_number
    assert states.find_duplicate(header(2)) is None


def test_other_bounds_than_stored_are_no_duplicate() -> None:
    states = ProducerStates(10)
    states.record(header(0, count=4), 0)
    assert states.find_duplicate(header(0, count=4)) == 0
    with pytest.raises(Refused):
        states.find_duplicate(header(0, count=3))


def test_a_new_producer_must_begin_at_zero() -> None:
    assert refusal(ProducerStates(10), header(1)) is ErrorCode.out_of_order_sequence_number


def test_epochs() -> None:
    states = states_with(0, 1)
    assert refusal(states, header(5, epoch=1)) is ErrorCode.out_of_order_sequence_number
    assert states.find_duplicate(header(0, epoch=1)) is None
    states.record(header(0, epoch=1), 2)
    assert refusal(states, header(2, epoch=0)) is ErrorCode.invalid_producer_epoch


def test_sequences_wrap() -> None:
    last = (1 << 31) - 1
    states = ProducerStates(10)
    states.record(header(last - 1), 0)
    states.record(header(last, count=3), 1)
    assert states.find_duplicate(header(last, count=3)) == 1
    assert states.find_duplicate(header(2)) is None
    assert refusal(states, header(3)) is ErrorCode.out_of_order_sequence_number


def test_batches_without_producer_id_are_always_new() -> None:
    states = ProducerStates(10)
    plain = read_header(make_batch(b"v"))
    states.record(plain, 0)
    assert states.find_duplicate(plain) is None
    assert len(states) == 0


def test_a_forgotten_producer_goes_on_where_it_was() -> None:
    states = ProducerStates(limit=2)
    for producer_id in (1, 2, 3):
        states.record(header(0, producer_id=producer_id), producer_id)
    assert len(states) == 2
    assert states.find_duplicate(header(1, producer_id=1)) is None
    assert refusal(states, header(1, producer_id=4)) is ErrorCode.out_of_order_sequence_number


def test_snapshot_and_restore() -> None:
    states = states_with(0, 1, 2, limit=1)
    restored = ProducerStates(1)
    restored.restore(states.snapshot())
    assert restored.find_duplicate(header(2)) == 2
    assert restored.find_duplicate(header(3)) is None
    assert restored.snapshot() == states.snapshot()
