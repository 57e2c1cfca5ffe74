"""How far a reader is: offsets that no record has count as read, and an end that was wished for is the end."""

from runtide_consumers.projection import TopicPartition
from runtide_consumers.read_positions import ReadPositions

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def test_offsets_without_records_behind_what_was_handed_over_count_as_applied() -> None:
    positions = ReadPositions({A: 2, B: 0}, {A: 10, B: 0}, stops=False)
    positions.move(A, 7)
    positions.now[A] = 10  # what stands at 7, 8 and 9 was compacted away
    assert positions.lag({A: 7}, {}) == {A: 0, B: 0}
    assert positions.reached({A: 7})
    assert positions.lag({A: 6}, {}) == {A: 4, B: 0}
    assert not positions.reached({A: 6})
    assert positions.at_end([A, B])


def test_the_end_is_the_greatest_that_was_told() -> None:
    positions = ReadPositions({A: 0}, {A: 10}, stops=False)
    assert positions.lag({A: 1}, {}) == {A: 9}
    assert positions.lag({A: 1}, {A: 12}) == {A: 11}
    positions.asked = {A: 15}
    assert positions.lag({A: 1}, {A: 12}) == {A: 14}
    positions.move(A, 20)
    assert positions.lag({A: 1}, {A: 12}) == {A: 19}
    assert not positions.is_over(A), "it goes on for ever"


def test_what_was_to_be_read_is_over_at_its_end_whatever_the_log_holds_behind() -> None:
    positions = ReadPositions({A: 0, B: 3}, {A: 10, B: 3}, stops=True)
    assert (positions.is_over(A), positions.is_over(B)) == (False, True)
    assert positions.lag({A: 4}, {A: 99}) == {A: 6, B: 3}
    positions.move(A, 10)
    assert positions.is_over(A)
    assert positions.starts == {A: 0, B: 3}
