"""The rule by which projections skip duplicates and record gaps."""

from hypothesis import given
from hypothesis import strategies as st

from runtide_consumers.sequences import Admission, Sequence, admit


def test_numbers_in_order_leave_no_gap() -> None:
    sequence = Sequence()
    for seq in range(3):
        sequence, admission = admit(sequence, seq)
        assert admission is Admission.NEXT
    assert sequence == Sequence(3)


def test_a_late_event_splits_its_gap_and_is_a_duplicate_the_second_time() -> None:
    sequence, admission = admit(Sequence(1), 6)
    assert (sequence, admission) == (Sequence(7, ((1, 5),)), Admission.AHEAD)
    sequence, admission = admit(sequence, 3)
    assert (sequence, admission) == (Sequence(7, ((1, 2), (4, 5))), Admission.LATE)
    assert admit(sequence, 3) == (sequence, Admission.DUPLICATE)
    assert sequence.missing == 4


@given(st.lists(st.integers(min_value=0, max_value=40), max_size=120))
def test_each_number_is_applied_once_and_the_gaps_are_exactly_what_is_missing(numbers: list[int]) -> None:
    sequence, applied = Sequence(), list[int]()
    for seq in numbers:
        sequence, admission = admit(sequence, seq)
        if admission is not Admission.DUPLICATE:
            applied.append(seq)
    missing = {seq for first, last in sequence.gaps for seq in range(first, last + 1)}
    assert sorted(applied) == sorted(set(numbers))
    assert missing == set(range(sequence.next_seq)) - set(numbers)
    assert sequence.missing == len(missing)
    assert all(before[1] + 1 < after[0] for before, after in zip(sequence.gaps, sequence.gaps[1:], strict=False))
