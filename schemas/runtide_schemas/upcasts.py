"""What Avro's rules cannot express about an old version of a type: a plain function each.

A change that keeps to the rules (a field with a default more or less, a field renamed with an alias) needs none. The
record that a function gets is as the old writer wrote it; what it returns is a record of the present schema.
"""

from collections.abc import Callable
from typing import Any

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTS: dict[str, Upcast] = {}
"""By fingerprint of the old version, hexadecimal, as in the name of its file in ``released/``."""
