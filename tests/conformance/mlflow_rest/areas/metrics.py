"""Histories of metrics: of one run in pages, of several runs, and sampled."""

from typing import Any

from tests.conformance.mlflow_rest.areas.logging import LARGEST, point
from tests.conformance.mlflow_rest.case import Call, Case, bad, call, differs, missing, ok
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_RUN
from tests.conformance.mlflow_rest.shapes import Unordered

HISTORY = "GET metrics/get-history"
BULK = "GET /ajax-api/2.0/mlflow/metrics/get-history-bulk"
INTERVAL = "GET metrics/get-history-bulk-interval"
NEW = {"run_id": "$new_run"}
LOSS = {**NEW, "metric_key": "loss"}


def logged(*points: dict[str, Any], run: str = "$new_run") -> Call:
    """Return the call that logs points to a run."""
    return call("POST runs/log-batch", {"run_id": run, "metrics": list(points)})


def of_run(point_: dict[str, Any], run: str = "$new_run") -> dict[str, Any]:
    """Return a point as the histories of several runs have it."""
    return {**point_, "run_id": run}


_BARE = b'{"run_id": "$new_run", "key": "loss", "value": NaN, "timestamp": 5}'
_STEPS = tuple(point("loss", float(step), 1000 + step, step) for step in range(5))
_OTHER = call("POST runs/create", {"experiment_id": "$experiment"}, saves={"other": "run.info.run_id"})
_FIRST_PAGE = call(
    HISTORY,
    {**LOSS, "max_results": 2},
    saves={"token": "next_page_token"},
    wanted={"metrics": list(_STEPS[:2]), "next_page_token": str},
)

_ONE_RUN = (
    ok("all points by time", HISTORY, LOSS, {"metrics": list(_STEPS)}, before=(logged(*reversed(_STEPS)),)),
    ok(
        "of equal times by step, then by value",
        HISTORY,
        LOSS,
        {"metrics": [point("loss", 1.0, 5, 1), point("loss", 2.0, 5, 1), point("loss", 0.0, 5, 2)]},
        before=(logged(point("loss", 0.0, 5, 2), point("loss", 2.0, 5, 1), point("loss", 1.0, 5, 1)),),
    ),
    ok(
        "a point logged twice is there once",
        HISTORY,
        LOSS,
        {"metrics": [_STEPS[0]]},
        before=(logged(_STEPS[0]), logged(_STEPS[0])),
    ),
    ok(
        "NaN and infinities",
        HISTORY,
        LOSS,
        {"metrics": [point("loss", "NaN", 1), point("loss", LARGEST, 2), point("loss", -LARGEST, 3)]},
        before=(logged(point("loss", "NaN", 1), point("loss", "Infinity", 2), point("loss", "-Infinity", 3)),),
    ),
    ok(
        "a key with a slash",
        HISTORY,
        {**NEW, "metric_key": "a/b c"},
        {"metrics": [point("a/b c", 1.0)]},
        before=(logged(point("a/b c", 1.0)),),
    ),
    ok(
        "run_uuid alone",
        HISTORY,
        {"run_uuid": "$new_run", "metric_key": "loss"},
        {"metrics": [_STEPS[0]]},
        before=(logged(_STEPS[0]),),
    ),
    ok(
        "a bare NaN, as Python's json writes it",
        HISTORY,
        LOSS,
        {"metrics": [point("loss", 0.0, 0)]},
        before=(call("POST runs/log-metric", raw=_BARE),),
        ours=differs("MLflow takes it for 0 at the time 0", answer={"metrics": [point("loss", "NaN", 5)]}),
    ),
    ok("an unknown run", HISTORY, {"run_id": UNKNOWN_RUN, "metric_key": "loss"}, EMPTY),
    ok("an id that no run can have", HISTORY, {"run_id": "../x", "metric_key": "loss"}, EMPTY),
    ok("an unknown key", HISTORY, {"run_id": "$run", "metric_key": "none"}, EMPTY),
    ok("of a deleted run", HISTORY, {"run_id": "$deleted_run", "metric_key": "none"}, EMPTY),
    ok(
        "the second page",
        HISTORY,
        {**LOSS, "max_results": 2, "page_token": "$token"},
        {"metrics": list(_STEPS[2:4]), "next_page_token": str},
        before=(logged(*_STEPS), _FIRST_PAGE),
    ),
    ok(
        "the rest",
        HISTORY,
        {**LOSS, "max_results": 3, "page_token": "$token"},
        {"metrics": list(_STEPS[2:5])},
        before=(logged(*_STEPS), _FIRST_PAGE),
    ),
    ok(
        "a page that is just full is the last",
        HISTORY,
        {**LOSS, "max_results": 5},
        {"metrics": list(_STEPS)},
        before=(logged(*_STEPS),),
    ),
    missing(HISTORY, {"run_id": UNKNOWN_RUN, "metric_key": "m"}, "run_id"),
    missing(HISTORY, {"run_id": UNKNOWN_RUN, "metric_key": "m"}, "metric_key"),
    *(
        bad(
            f"pages of {size}",
            HISTORY,
            {"run_id": "$run", "metric_key": "m", "max_results": size},
            f"Invalid value {size} for parameter 'max_results'",
        )
        for size in (0, -1)
    ),
    bad(
        "a token that is none",
        HISTORY,
        {"run_id": "$run", "metric_key": "m", "max_results": 2, "page_token": "junk"},
        "(?i)token",
    ),
)
_BULK = (
    ok(
        "two runs, by run, time and step",
        BULK,
        {"run_id": ["$new_run", "$other"], "metric_key": "loss"},
        {"metrics": Unordered((of_run(_STEPS[0]), of_run(_STEPS[1]), of_run(_STEPS[3], "$other")))},
        before=(_OTHER, logged(*_STEPS[:2]), logged(_STEPS[3], run="$other")),
    ),
    ok("one run", BULK, LOSS, {"metrics": [of_run(one) for one in _STEPS]}, before=(logged(*_STEPS),)),
    ok(
        "the first few",
        BULK,
        {**LOSS, "max_results": 2},
        {"metrics": [of_run(one) for one in _STEPS[:2]]},
        before=(logged(*_STEPS),),
    ),
    ok("an unknown run", BULK, {"run_id": UNKNOWN_RUN, "metric_key": "loss"}, {"metrics": []}),
    bad("no run", BULK, {"metric_key": "loss"}, "must specify at least one run_id"),
    bad("no key", BULK, {"run_id": "$run"}, "must specify a metric_key"),
    bad(
        "101 runs",
        BULK,
        {"run_id": [UNKNOWN_RUN] * 101, "metric_key": "m"},
        "cannot specify more than 100 run_ids. Received 101",
    ),
    ok(
        "a negative size",
        BULK,
        {**LOSS, "max_results": -1},
        {"metrics": [of_run(_STEPS[0])]},
        before=(logged(*_STEPS[:2]),),
        ours=differs("MLflow leaves out as many from the end", "INVALID_PARAMETER_VALUE", "It must not be negative"),
    ),
    ok(
        "a size that is no number",
        BULK,
        {"run_id": "$run", "metric_key": "m", "max_results": "few"},
        status=500,
        ours=differs("a mistake of the caller is no failure of the server", "INVALID_PARAMETER_VALUE", "max_results"),
    ),
)
_LONG = tuple(point("loss", float(step), 1000 + step, step) for step in range(100))
_RUNS = {"run_ids": "$new_run", "metric_key": "loss"}


def _sampled(*steps: int) -> dict[str, Any]:
    """Return the answer with those of the hundred points that have these steps."""
    return {"metrics": [of_run(_LONG[step]) for step in steps]}


_INTERVAL = (
    ok(
        "all points of one run",
        INTERVAL,
        _RUNS,
        {"metrics": [of_run(one) for one in _STEPS]},
        before=(logged(*_STEPS),),
    ),
    ok(
        "some steps",
        INTERVAL,
        {**_RUNS, "start_step": 1, "end_step": 3},
        {"metrics": [of_run(one) for one in _STEPS[1:4]]},
        before=(logged(*_STEPS),),
    ),
    *(
        ok(f"{most} of a hundred", INTERVAL, {**_RUNS, "max_results": most}, _sampled(*steps), before=(logged(*_LONG),))
        for most, steps in (
            (1, (99,)),
            (2, (0, 99)),
            (3, (0, 34, 99)),
            (7, (0, 15, 30, 44, 58, 72, 99)),
            (99, (0, *range(2, 99), 99)),
            (100, range(100)),
        )
    ),
    ok(
        "some of a span of steps",
        INTERVAL,
        {**_RUNS, "max_results": 3, "start_step": 10, "end_step": 19},
        _sampled(10, 14, 19),
        before=(logged(*_LONG),),
    ),
    ok(
        "many points of one step are not all given",
        INTERVAL,
        {**_RUNS, "max_results": 2},
        {"metrics": [of_run(point("loss", value, 1000, 7)) for value in (0.0, 49.0)]},
        before=(logged(*(point("loss", float(value), 1000, 7) for value in range(50))),),
    ),
    ok(
        "as many of each run, in the order that they are asked for",
        INTERVAL,
        {"run_ids": ["$other", "$new_run"], "metric_key": "loss", "max_results": 2},
        {
            "metrics": [
                *(of_run(_LONG[step], "$other") for step in (50, 59)),
                *(of_run(_LONG[step]) for step in (0, 99)),
            ]
        },
        before=(_OTHER, logged(*_LONG), logged(*_LONG[50:60], run="$other")),
    ),
    ok("an unknown run", INTERVAL, {"run_ids": UNKNOWN_RUN, "metric_key": "loss"}, EMPTY),
    ok("an unknown key", INTERVAL, {"run_ids": "$run", "metric_key": "none"}, EMPTY),
    ok(
        "two runs",
        INTERVAL,
        {"run_ids": ["$new_run", "$other"], "metric_key": "loss"},
        {"metrics": Unordered((of_run(_STEPS[0]), of_run(_STEPS[1]), of_run(_STEPS[3], "$other")))},
        before=(_OTHER, logged(*_STEPS[:2]), logged(_STEPS[3], run="$other")),
    ),
    bad("no run", INTERVAL, {"metric_key": "loss"}, "Missing value for required parameter 'run_ids'|run_ids"),
    bad("no key", INTERVAL, {"run_ids": "$run"}, "Missing value for required parameter 'metric_key'"),
    bad(
        "101 runs",
        INTERVAL,
        {"run_ids": [UNKNOWN_RUN] * 101, "metric_key": "m"},
        "must specify at most 100 run_ids. Received 101",
    ),
    bad("a start without an end", INTERVAL, {**_RUNS, "run_ids": "$run", "start_step": 1}, "both must be specified"),
    bad(
        "an end before the start",
        INTERVAL,
        {**_RUNS, "run_ids": "$run", "start_step": 3, "end_step": 1},
        "end_step must be greater than start_step",
    ),
    *(
        bad(
            f"pages of {size}",
            INTERVAL,
            {**_RUNS, "run_ids": "$run", "max_results": size},
            "max_results must be between 1 and 2500",
        )
        for size in (0, 2501)
    ),
)
CASES: tuple[Case, ...] = (*_ONE_RUN, *_BULK, *_INTERVAL)
