"""What the gateway remembers of the registrar's answers is bounded in bytes, not only in facts."""

from runtide_queries.decisions import Remembered


def test_the_oldest_are_forgotten_for_newer_ones_by_number() -> None:
    remembered = Remembered(2, 1000)
    for name in "abac":
        remembered.put(name, name.encode())
    assert [remembered.get(name) for name in "abc"] == [b"a", None, b"c"]


def test_the_oldest_are_forgotten_for_newer_ones_by_bytes() -> None:
    remembered = Remembered(1000, 100)
    for number in range(50):
        remembered.put(str(number), b"x" * 30)
        remembered.put(str(number), b"y" * 30)
    assert [number for number in range(50) if remembered.get(str(number))] == [47, 48, 49]
    remembered.put("huge", b"x" * 101)
    assert remembered.get("huge") is None
    remembered.put("next", b"x" * 100)
    assert remembered.get("next") == b"x" * 100
