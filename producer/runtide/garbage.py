"""How a service collects garbage: what it starts with is never looked at again, and the rest seldom."""

import gc

ALLOCATED = 20_000
"""How many more objects there are than at the last look before the youngest are looked at; Python's own figure is 700."""


def collect_seldom() -> None:
    """Have the garbage of cycles looked for less often. To be called once, when everything that stays is loaded.

    A call or batch of a thousand metrics makes thousands of objects that all go by counting. At Python's own pace it would be
    looked at several times over, with all that the process has loaded: half of the time that such a call takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATED)
