"""Small runs and filters over them, for hypothesis: few keys and values, so that much is equal, missing or NaN."""

import math

from hypothesis import strategies as some

from tests.unit.search_rules import Sample

TEXTS = some.sampled_from(["", "x", "X", "xy", "x_y", "yx", "Xyx"])
PATTERNS = some.sampled_from(["", "%", "x", "X%", "%y", "_", "%x%", "x_y", "__"])
NUMBERS = some.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0])
KEYS = some.sampled_from(["a", "b c"])
COMPARED = some.sampled_from(["=", "!=", "<", "<=", ">", ">="])
NAMES = some.sampled_from(["one", "two", "three"])


def some_dict(values: some.SearchStrategy[object]) -> some.SearchStrategy[dict[str, object]]:
    """A dictionary of the keys that filters ask for, or fewer."""
    return some.dictionaries(KEYS, values, max_size=2)


def samples(
    start_times: some.SearchStrategy[int | None], context: some.SearchStrategy[str | None]
) -> some.SearchStrategy[list[Sample]]:
    """A few runs."""
    run = some.builds(
        Sample,
        run_id=some.just(""),
        name=some.sampled_from(["one", "two", "Three"]),
        status=some.sampled_from(["RUNNING", "FINISHED"]),
        start_time=start_times,
        metrics=some_dict(NUMBERS | some.just(math.nan)),
        params=some_dict(TEXTS),
        tags=some_dict(TEXTS),
        datasets=some.lists(some.tuples(NAMES, NAMES, context), max_size=2, unique_by=lambda one: one[:2]).map(tuple),
    )  # fmt: skip
    return some.lists(run, min_size=1, max_size=6).map(
        lambda runs: [Sample(**{**vars(one), "run_id": f"r{number}"}) for number, one in enumerate(runs)]
    )


def _keyed(prefixes: list[str]) -> some.SearchStrategy[str]:
    return some.builds("{}.{}{}{}".format, some.sampled_from(prefixes), some.just("`"), KEYS, some.just("`"))


def _quoted(values: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
    return some.builds("{0}{1}{0}".format, some.sampled_from("'\""), values)


def _listed(values: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
    return some.lists(values.map("'{}'".format), min_size=1, max_size=3).map(lambda found: f"({', '.join(found)})")


def _compared(fields: some.SearchStrategy[str], texts: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
    equal = some.builds("{} {} {}".format, fields, some.sampled_from(["=", "!="]), _quoted(texts))
    return equal | some.builds("{} {} {}".format, fields, some.sampled_from(["LIKE", "ILIKE"]), _quoted(PATTERNS))


_DATASETS = some.sampled_from(["dataset.name", "datasets.digest", "dataset.context"])
LEAVES = some.one_of(
    some.builds("{} {} {}".format, _keyed(["metric", "metrics"]), COMPARED, NUMBERS),
    some.builds("{} {} {}".format, some.sampled_from(["start_time", "attribute.start_time", "created"]), COMPARED, some.integers(0, 3)),
    _compared(_keyed(["param", "params", "parameter", "tag", "tags"]), TEXTS),
    some.builds("{} {}".format, _keyed(["params", "tags"]), some.sampled_from(["IS NULL", "IS NOT NULL"])),
    _compared(some.sampled_from(["run_name", "`run name`", "attributes.run_name"]), some.sampled_from(["one", "two"])),
    _compared(some.sampled_from(["status", "run.status"]), some.sampled_from(["RUNNING", "FAILED"])),
    _compared(_DATASETS, NAMES),
    some.builds("{} {} {}".format, _DATASETS, some.sampled_from(["IN", "NOT IN"]), _listed(NAMES)),
    some.builds("{} {} {}".format, some.sampled_from(["run_id", "attr.run_id"]), some.sampled_from(["IN", "NOT IN"]), _listed(some.sampled_from(["r0", "r1", "r9"]))),
)  # fmt: skip
ANDS = some.lists(LEAVES, min_size=1, max_size=3).map(" AND ".join)
TREES = some.recursive(
    LEAVES,
    lambda inner: (
        some.builds("({} OR {})".format, inner, inner)
        | some.builds("({} AND {})".format, inner, inner)
        | some.builds("NOT ({})".format, inner)
        | some.builds("{} or {} and {}".format, LEAVES, inner, LEAVES)
    ),
    max_leaves=6,
)
ORDERED = some.lists(
    some.tuples(
        some.sampled_from(["metrics.a", "metrics.`b c`", "params.a", "tags.a", "start_time", "run_name", "status"]),
        some.sampled_from(["", " ASC", " DESC"]),
    ),
    max_size=2,
    unique_by=lambda one: one[0],
).map(lambda terms: ["".join(term) for term in terms])
