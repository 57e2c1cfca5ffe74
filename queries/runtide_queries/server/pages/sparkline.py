"""A curve as a small picture: the mean as a line within the band from minimum to maximum."""

import math

from runtide_queries.buckets import Bucket
from runtide_queries.server.pages.formats import number
from runtide_queries.server.pages.html import Markup, element

WIDTH, HEIGHT = 220, 44
_EDGE = 3


def sparkline(buckets: tuple[Bucket, ...], label: str) -> Markup:
    """Return an SVG of a curve; the unfinite is left out, and with nothing finite there is no picture."""
    finite = [bucket for bucket in buckets if _mean(bucket) is not None]
    if not finite:
        return Markup("")
    low = min(value for bucket in finite for value in _band(bucket))
    high = max(value for bucket in finite for value in _band(bucket))
    first, last = finite[0].first_step, finite[-1].last_step

    def x(bucket: Bucket) -> float:
        middle = (bucket.first_step + bucket.last_step) / 2
        return WIDTH / 2 if first == last else _EDGE + (middle - first) / (last - first) * (WIDTH - 2 * _EDGE)

    def y(value: float) -> float:
        share = 0.5 if high == low else (value / 2 - low / 2) / (high / 2 - low / 2)
        return HEIGHT - _EDGE - share * (HEIGHT - 2 * _EDGE)

    upper = [(x(bucket), y(_band(bucket)[1])) for bucket in finite]
    lower = [(x(bucket), y(_band(bucket)[0])) for bucket in finite]
    line = [(x(bucket), y(_mean(bucket) or 0.0)) for bucket in finite]
    return element(
        "svg",
        element("title", f"{label}: steps {first} to {last}, from {number(low)} to {number(high)}"),
        element("polygon", points=_points([*upper, *reversed(lower)]), class_="band"),
        element("polyline", points=_points(line), class_="curve"),
        element("circle", cx=f"{line[-1][0]:.1f}", cy=f"{line[-1][1]:.1f}", r="2.2", class_="dot"),
        class_="spark",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
    )


def _mean(bucket: Bucket) -> float | None:
    return bucket.mean if bucket.mean is not None and math.isfinite(bucket.mean) else None


def _band(bucket: Bucket) -> tuple[float, float]:
    """Return the bucket's least and greatest value, as far as they are finite."""
    mean = _mean(bucket) or 0.0
    values = [value for value in (bucket.minimum, bucket.maximum) if value is not None and math.isfinite(value)]
    return min([*values, mean]), max([*values, mean])


def _points(places: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
