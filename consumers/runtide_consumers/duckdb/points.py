"""Metric columns of many events as one Arrow table, without a Python object per point."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runtide_consumers.duckdb.surrogates import Surrogates
from runtide_consumers.nan import with_one_nan
from runtide_consumers.projection import Event

Integers = NDArray[np.int32]
OFFSET_BITS = 44
"""A point's place is its record's partition, above this many bits of its offset: one column, which hardly takes room."""


def points_table(events: Sequence[Event], surrogates: Surrogates) -> pa.Table:
    """Return the points of MetricsLogged events: run, key and writer as numbers, then step, timestamp, value and place."""
    bodies = [event.body for event in events]
    lengths = np.fromiter((len(body) for body in bodies), np.int64, len(bodies))
    runs = [surrogates.runs.number(body.run_id) for body in bodies]
    writers = [surrogates.writers.number(event.envelope.writer) for event in events]
    columns = {
        "run": np.repeat(np.array(runs, np.int32), lengths),
        "key": _keys(events, lengths, surrogates),
        "writer": np.repeat(np.array(writers, np.int32), lengths),
        "step": np.concatenate([body.step for body in bodies]),
        "timestamp": np.concatenate([body.timestamp for body in bodies]),
        "value": with_one_nan(np.concatenate([body.value for body in bodies])),
        "place": np.repeat(_places(events), lengths),
    }
    return pa.table(columns)


def _places(events: Sequence[Event]) -> NDArray[np.int64]:
    origins = (event.origin for event in events)
    return np.fromiter((origin.partition << OFFSET_BITS | origin.offset for origin in origins), np.int64, len(events))


def _keys(events: Sequence[Event], lengths: NDArray[np.int64], surrogates: Surrogates) -> Integers:
    """Look keys up once per event and key: all events' key lists lie in one array, each index shifted to its own."""
    number = surrogates.keys.number
    numbers = np.array([number(key) for event in events for key in event.body.keys], np.int32)
    firsts = [0, *accumulate(len(event.body.keys) for event in events)][:-1]
    places = np.concatenate([event.body.key_index for event in events])
    found: Integers = numbers[places + np.repeat(np.array(firsts, np.int64), lengths)]
    return found
