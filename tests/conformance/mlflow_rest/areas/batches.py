"""Batches: log-batch, its limits, and that a retry of one changes nothing."""

from typing import Any

from tests.conformance.mlflow_rest.areas.logging import BAD_NAME, IS_DELETED, LARGEST, NO_RUN, has, point
from tests.conformance.mlflow_rest.case import Case, bad, call, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_RUN, tag

BATCH, HISTORY = "POST runs/log-batch", "GET metrics/get-history"
NEW, SHARED = {"run_id": "$new_run"}, {"run_id": "$run"}
_NAMED = tag("mlflow.runName", "one")
_FULL: dict[str, Any] = {
    **NEW,
    "metrics": [point("loss", 0.5, 1000, 1), point("loss", 0.25, 1001, 2), point("acc", 0.9, 1001, 2)],
    "params": [tag("lr", "0.1"), tag("empty", "")],
    "tags": [tag("team", "blue")],
}
_KEPT = has(
    metrics=[point("loss", 0.25, 1001, 2), point("acc", 0.9, 1001, 2)],
    params=[tag("lr", "0.1"), tag("empty", "")],
    tags=[_NAMED, tag("team", "blue")],
)
_NOTHING = has()


def _many(kind: str, count: int) -> list[dict[str, Any]]:
    return [point("m", 1.0, 1, number) if kind == "metrics" else tag(f"k{number}", "v") for number in range(count)]


CASES: tuple[Case, ...] = (
    ok("metrics, params and tags", BATCH, _FULL, EMPTY, then=_KEPT),
    ok("the same again", BATCH, _FULL, EMPTY, before=(call(BATCH, _FULL),), then=_KEPT),
    ok("nothing", BATCH, NEW, EMPTY, then=_NOTHING),
    ok("empty lists", BATCH, {**NEW, "metrics": [], "params": [], "tags": []}, EMPTY, then=_NOTHING),
    ok(
        "NaN and infinity",
        BATCH,
        {**NEW, "metrics": [point("n", "NaN"), point("i", "Infinity"), point("j", "-Infinity")]},
        EMPTY,
        then=has(metrics=[point("n", "NaN"), point("i", LARGEST), point("j", -LARGEST)]),
    ),
    ok(
        "points of one key in any order: the latest by step",
        BATCH,
        {**NEW, "metrics": [point("a", 3.0, 1, 30), point("a", 1.0, 9, 10), point("a", 2.0, 5, 20)]},
        EMPTY,
        then=has(metrics=[point("a", 3.0, 1, 30)]),
    ),
    ok(
        "1000 metrics",
        BATCH,
        {**NEW, "metrics": _many("metrics", 1000)},
        EMPTY,
        then=has(metrics=[point("m", 1.0, 1, 999)]),
    ),
    ok("100 params and 100 tags", BATCH, {**NEW, "params": _many("params", 100), "tags": _many("tags", 100)}, EMPTY),
    bad(
        "1001 metrics",
        BATCH,
        {**SHARED, "metrics": _many("metrics", 1001)},
        r"A batch logging request can contain at most 1000 metrics\. Got 1001 metrics|exceeds the maximum length",
    ),
    bad(
        "101 params",
        BATCH,
        {**SHARED, "params": _many("params", 101)},
        r"A batch logging request can contain at most 100 params\. Got 101 params|exceeds the maximum length",
    ),
    bad(
        "101 tags",
        BATCH,
        {**SHARED, "tags": _many("tags", 101)},
        r"A batch logging request can contain at most 100 tags\. Got 101 tags|exceeds the maximum length",
    ),
    bad(
        "1001 in all",
        BATCH,
        {**SHARED, "metrics": _many("metrics", 901), "params": _many("params", 100)},
        "A batch logging request can contain at most 1000 metrics, params, and tags",
    ),
    bad(
        "one param twice with two values",
        BATCH,
        {**NEW, "params": [tag("a", "1"), tag("a", "2")]},
        "Duplicate parameter keys have been submitted: ?",
        then=_NOTHING,
    ),
    bad(
        "one param twice with one value",
        BATCH,
        {**NEW, "params": [tag("a", "1"), tag("a", "1")]},
        "Duplicate parameter keys have been submitted: ?",
    ),
    bad(
        "a param with another value than before: nothing is written",
        BATCH,
        {**NEW, "params": [tag("lr", "0.2"), tag("new", "1")], "metrics": [point("m", 1.0)], "tags": [tag("t", "1")]},
        r"Changing param values is not allowed\. Params? (were|with|was)",
        before=(call(BATCH, {**NEW, "params": [tag("lr", "0.1")]}),),
        then=has(params=[tag("lr", "0.1")]),
    ),
    ok(
        "one tag twice: the last one holds",
        BATCH,
        {**NEW, "tags": [tag("t", "1"), tag("t", "2")]},
        EMPTY,
        then=has(tags=[_NAMED, tag("t", "2")]),
    ),
    ok(
        "a param of 6001 characters and a tag of 8001 are cut",
        BATCH,
        {**NEW, "params": [tag("p", "v" * 6001)], "tags": [tag("t", "v" * 8001)]},
        EMPTY,
        then=has(params=[tag("p", "v" * 6000)], tags=[_NAMED, tag("t", "v" * 8000)]),
    ),
    bad(
        "a forbidden key of a metric",
        BATCH,
        {**NEW, "metrics": [point("a#b", 1.0)], "params": [tag("p", "1")]},
        BAD_NAME,
        then=_NOTHING,
    ),
    bad("a forbidden key of a param", BATCH, {**SHARED, "params": [tag("a#b", "1")]}, BAD_NAME),
    bad("a forbidden key of a tag", BATCH, {**SHARED, "tags": [tag("a#b", "1")]}, BAD_NAME),
    bad(
        "a negative time",
        BATCH,
        {**SHARED, "metrics": [point("m", 1.0, -1)]},
        "Timestamp must be a nonnegative long|Invalid value -1",
    ),
    *(
        bad(
            f"a metric without {field}",
            BATCH,
            {**SHARED, "metrics": [{key: value for key, value in point("m", 1.0).items() if key != field}]},
            rf"Missing value for required parameter 'metrics\[0\]\.{field}'",
        )
        for field in ("key", "value", "timestamp")
    ),
    bad(
        "a param without a key",
        BATCH,
        {**SHARED, "params": [{"value": "1"}]},
        r"Missing value for required parameter 'params\[0\]\.key'",
    ),
    bad(
        "a tag without a key",
        BATCH,
        {**SHARED, "tags": [{"value": "1"}]},
        r"Missing value for required parameter 'tags\[0\]\.key'",
    ),
    missing(BATCH, {"run_id": UNKNOWN_RUN}, "run_id"),
    wrong_type(BATCH, {}, "run_id", 5, "5"),
    *(wrong_type(BATCH, SHARED, kind, "x", '"x"') for kind in ("metrics", "params", "tags")),
    bad("an unknown run", BATCH, {"run_id": UNKNOWN_RUN, "params": [tag("a", "1")]}, **NO_RUN),
    bad("a deleted run", BATCH, {"run_id": "$deleted_run", "params": [tag("a", "1")]}, IS_DELETED),
    bad("no content type", BATCH, None, "Content-Type header is missing", raw=b"{}", headers={}),
)
