"""Folding metric points with NumPy: all events of a batch together, to one row per (run, key).

The summary does not depend on the order of the points: *last* is the greatest and *first* the least by (step,
timestamp, value), NaN above all numbers, and equal values that differ in bits (zeros, NaNs) by their bits; *min* and
*max* ignore NaN, and zero has no sign there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide_consumers.nan import with_one_nan
from runtide_schemas.events.metrics import MetricsLogged

_SMALL = 1 << 16
"""NumPy sorts numbers of 16 bits without comparing them."""

Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]
SummaryColumns = tuple[list[Any], ...]
"""Columns of ``metric_summaries`` in their order, as Python lists."""


def summarise(events: Sequence[MetricsLogged]) -> SummaryColumns | None:
    """Return one row per (run, key) of all points of ``events``, as columns; None when there are no points."""
    names: dict[tuple[str, str], int] = {}
    groups: list[Longs] = []
    steps: list[Longs] = []
    times: list[Longs] = []
    values: list[Doubles] = []
    for event in events:
        if len(event):
            numbers = [names.setdefault((event.run_id, key), len(names)) for key in event.keys]
            groups.append(np.array(numbers, np.int64)[event.key_index])
            steps.append(event.step)
            times.append(event.timestamp)
            values.append(event.value)
    if not groups:
        return None
    group, step, at, value = (
        np.concatenate(groups),
        np.concatenate(steps),
        np.concatenate(times),
        with_one_nan(np.concatenate(values)),
    )
    order = _order(group, step, at, value)
    group, step, at, value = group[order], step[order], at[order], value[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group)) - 1
    keys = list(names)
    labels = [keys[number] for number in group[starts].tolist()]
    return (
        [run_id for run_id, _ in labels],
        [key for _, key in labels],
        *(column[ends].tolist() for column in (value, step, at)),
        *(column[starts].tolist() for column in (value, step, at)),
        *_ranges(value, starts),
        (ends - starts + 1).tolist(),
        np.add.reduceat(np.isnan(value), starts, dtype=np.int64).tolist(),
    )


def _order(group: Longs, step: Longs, at: Longs, value: Doubles) -> NDArray[np.intp]:
    """Return the order by group and within it by (step, timestamp, value): there is only one.

    Writers mostly log in that order, so that it is enough to bring the groups together, which takes a tenth of the time.
    """
    narrow = group.astype(np.uint16) if int(group.max()) < _SMALL else group
    together = np.argsort(narrow, kind="stable")
    if _ascends(group[together], step[together], at[together]):
        return together
    keys: tuple[NDArray[Any], ...] = (value, at, step, group)
    if _has_twins(value):
        keys = (np.ascontiguousarray(value, np.float64).view(np.uint64), *keys)
    return np.lexsort(keys)


def _ascends(group: Longs, step: Longs, at: Longs) -> bool:
    """Return whether (step, timestamp) grows from each item of a group to the next, so that values do not matter."""
    later = step[1:] > step[:-1]
    later |= (step[1:] == step[:-1]) & (at[1:] > at[:-1])
    later |= group[1:] != group[:-1]
    return bool(later.all())


def _has_twins(value: Doubles) -> bool:
    """Return whether values may be equal that differ in their bits: NaNs, or zeros of both signs."""
    return bool(np.isnan(value).any() or np.signbit(value[value == 0]).any())


def _ranges(value: Doubles, starts: NDArray[np.intp]) -> tuple[list[float | None], list[float | None]]:
    least, greatest = np.fmin.reduceat(value, starts) + 0.0, np.fmax.reduceat(value, starts) + 0.0
    return _null_for_nan(least), _null_for_nan(greatest)


def _null_for_nan(column: Doubles) -> list[float | None]:
    numbers: list[float | None] = column.tolist()
    for place in np.flatnonzero(np.isnan(column)).tolist():
        numbers[place] = None
    return numbers
