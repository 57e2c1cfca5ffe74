"""How services collect garbage: less often, and still."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from runtide.garbage import ALLOCATED, collect_seldom


class Knot:
    """An object in a cycle, which counting alone never frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave Python's own way to the tests after these."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_there_is_not_looked_at_again() -> None:
    there = [object() for _ in range(10)], Knot()
    collect_seldom()
    assert gc.get_freeze_count() > 1_000
    assert not any(found is there for found in gc.get_objects())


def test_a_thousand_objects_are_not_looked_at_and_a_cycle_goes_all_the_same() -> None:
    collect_seldom()
    looks = sum(generation["collections"] for generation in gc.get_stats())
    kept = [[number] for number in range(1_000)]
    assert sum(generation["collections"] for generation in gc.get_stats()) == looks
    knot = weakref.ref(Knot())
    assert knot() is not None
    kept += [[number] for number in range(2 * ALLOCATED)]
    assert knot() is None
