"""The oracle of the crash tests finds every kind of fault, and says who is to blame."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.crash import oracle
from tests.crash.load_client import Acknowledged
from tests.crash.oracle import Place, disorders, holes, missing

STORED = {Place(0, 0): "a:0", Place(0, 1): "b:0", Place(0, 2): "a:3", Place(1, 0): "a:1"}


def client(*acknowledged: Acknowledged) -> Any:
    return SimpleNamespace(name="a", acknowledged=list(acknowledged))


def faults(*acknowledged: Acknowledged) -> list[str]:
    return missing(client(*acknowledged), STORED, {}, "", "")


def test_what_is_where_it_was_acknowledged_is_no_fault() -> None:
    assert faults(Acknowledged(0, 0, 0), Acknowledged(0, -1, 3), Acknowledged(1, 0, 1)) == []
    assert disorders(STORED) == []


@pytest.mark.parametrize(
    ("read_again", "blame"),
    [
        (None, "the broker acknowledged it and has lost it"),
        ("b:7", "the broker acknowledged it and has lost it"),
        ("a:6", "the broker has it, and the reader skipped it"),
    ],
)
def test_who_is_to_blame_for_a_missing_record(
    monkeypatch: pytest.MonkeyPatch, read_again: str | None, blame: str
) -> None:
    monkeypatch.setattr(oracle, "value_at", lambda *_: read_again)
    assert faults(Acknowledged(0, 5, 6)) == [f"a:6 at 0@5: {blame}"]


def test_a_record_at_another_place_than_was_told_is_a_fault() -> None:
    assert faults(Acknowledged(0, 1, 0)) == ["a:0 at 0@1: the client told another place than where the record is"]


def test_a_record_that_was_confirmed_without_a_place_must_be_somewhere() -> None:
    assert faults(Acknowledged(0, -1, 6)) == ["a:6 at 0@-1: the broker acknowledged it and has lost it"]


def test_disorder_is_found_per_producer_and_partition() -> None:
    found = disorders({Place(0, 0): "a:2", Place(0, 1): "b:0", Place(0, 2): "a:0", Place(1, 0): "a:1"})
    assert found == ["a:0 at 0@2 stands behind a:2"]


def test_only_what_lies_before_the_begin_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "value_at", lambda *_: None)
    kept = {place._replace(offset=place.offset + 10): value for place, value in STORED.items()}
    deleted = [Acknowledged(0, 9, 8), Acknowledged(0, -1, -5)]
    lost = [Acknowledged(0, 13, 5), Acknowledged(0, -1, 5), Acknowledged(1, 9, 0)]
    found = missing(client(*deleted, *lost), kept, {0: 10}, "", "")
    assert [fault.split(":")[1] for fault in found] == ["5 at 0@13", "5 at 0@-1", "0 at 1@9"]


def test_a_hole_or_a_wrong_begin_is_found() -> None:
    assert holes(STORED, 2, {}) == []
    assert holes({Place(0, 4): "a:0", Place(0, 5): "a:1"}, 1, {0: 4}) == []
    for offsets, begin in (((0, 2), 0), ((5, 6), 4), ((3, 4), 4)):
        stored = {Place(0, offset): f"a:{offset}" for offset in offsets}
        assert len(holes(stored, 1, {0: begin})) == 1
