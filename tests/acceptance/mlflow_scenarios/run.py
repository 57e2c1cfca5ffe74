"""``python -m tests.acceptance.mlflow_scenarios.run MODULE``: run a module's scenarios, and say what became of each.

The last line of standard output is ``OUTCOMES`` and JSON: scenario to ``passed``, ``skipped: why`` or the traceback. Only the
standard library and mlflow are needed.
"""

import inspect
import json
import os
import sys
import time
import traceback
from importlib import import_module

from tests.acceptance.mlflow_scenarios.expectations import NotWithThisClient

OUTCOMES = "OUTCOMES"
PASSED = "passed"
SKIPPED = "skipped: "


def main(name: str) -> None:
    """Run every scenario of a module, one after the other."""
    module = import_module(f"tests.acceptance.mlflow_scenarios.{name}")
    outcomes = {}
    for scenario, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ != module.__name__ or scenario.startswith("_"):
            continue
        began = time.perf_counter()
        try:
            function()
            outcomes[scenario] = PASSED
        except NotWithThisClient as error:
            outcomes[scenario] = f"{SKIPPED}{error}"
        except BaseException:  # noqa: BLE001  # the next scenario is asked all the same, and this one's end is told
            outcomes[scenario] = traceback.format_exc()
        print(f"{time.perf_counter() - began:7.2f} s  {scenario}", file=sys.stderr)
    print(f"\n{OUTCOMES}{json.dumps(outcomes)}", flush=True)
    # Whatever failed may have left threads of the client behind, which go on trying.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
