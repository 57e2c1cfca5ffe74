"""One sample event per type, the same at every run: what the golden files hold."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.registry import EVENT_TYPES

_SCALARS: dict[Any, Any] = {str: "text äöü", int: 1_700_000_000_123, float: 0.5, bool: True, bytes: b"\x00\xff"}


def sample(name: str) -> Any:
    """Return the sample event of a type."""
    return _metrics() if name == "MetricsLogged" else _sample_of(EVENT_TYPES[name].cls)


def _metrics() -> MetricsLogged:
    value = np.array([0.5, np.nan, np.inf, -np.inf, -0.0, 5e-324], dtype=np.float64)
    n = len(value)
    return MetricsLogged(
        run_id="0123456789abcdef0123456789abcdef",
        keys=("loss", "val/äcc"),
        key_index=np.arange(n, dtype=np.int32) % 2,
        step=np.array([0, 1, -1, 2**63 - 1, -(2**63), 300], dtype=np.int64),
        timestamp=np.full(n, 1_700_000_000_123, dtype=np.int64),
        value=value,
    )


def _sample_of(hint: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{field.name: _field(field.name, hints[field.name]) for field in fields(hint)})
    if get_origin(hint) is tuple:
        return (_sample_of(get_args(hint)[0]),)
    if get_origin(hint) is Mapping:
        return {"key": _sample_of(get_args(hint)[1])}
    options = [option for option in get_args(hint) if option is not type(None)]
    return _sample_of(options[0]) if options else _SCALARS[hint]


def _field(name: str, hint: Any) -> Any:
    small = {"partition": 3, "rank": 1, "local_rank": 0, "world_size": 2}
    return small[name] if name in small else _sample_of(hint)
