"""One table of figures measured in turns: medians, and the embedded broker's as a multiple of the others'."""

import statistics
from collections.abc import Mapping, Sequence

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Broker to the figures of each round."""


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Return the median of every figure: figure to broker to value."""
    found: dict[str, dict[str, float]] = {}
    for broker, measured in rounds.items():
        for figure in dict.fromkeys(key for one in measured for key in one):
            values = [one[figure] for one in measured if figure in one]
            found.setdefault(figure, {})[broker] = statistics.median(values)
    return found


def ratios(rounds: Rounds, figure: str, ours: str, theirs: str) -> float:
    """Return the median of the rounds' ratios of a figure: what drifts with the machine from round to round cancels."""
    pairs = zip(rounds[ours], rounds[theirs], strict=True)
    return statistics.median(our[figure] / their[figure] for our, their in pairs)


def render(rounds: Rounds, ours: str) -> str:
    """Return the table as Markdown: a row per figure, a column per broker, the ratio to each other broker behind."""
    brokers = list(rounds)
    others = [broker for broker in brokers if broker != ours]
    header = ["", *brokers, *(f"{ours} / {other}" for other in others)]
    lines = [header, ["---"] * len(header)]
    for figure, values in medians(rounds).items():
        compared = [
            f"{ratios(rounds, figure, ours, other):.2f}" if ours in values and other in values else ""
            for other in others
        ]
        lines.append([figure, *(_short(values.get(broker)) for broker in brokers), *compared])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
