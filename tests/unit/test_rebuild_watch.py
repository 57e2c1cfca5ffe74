"""What a rebuild shows while it works."""

import io

import pytest
from rich.console import Console

from runtide_consumers.rebuild.bar import BarWatch, run_watched
from runtide_consumers.rebuild.watch import Pace, Watch


@pytest.mark.parametrize(
    ("pace", "shown"),
    [
        (Pace(250, 1_000, 1_234.5, 42.4), "250/1000 events 1,234/s, 42 s left"),
        (Pace(0, 1_000, 0.0, None), "0/1000 events 0/s"),
        (Pace(1, 10**9, 9e5, 4_000.0), "events 900,000/s, 1 h 06 min left"),
        (Pace(1, 10**6, 9e3, 100.0), "events 9,000/s, 1 min 40 s left"),
    ],
)
def test_the_bar_shows_events_rate_and_time_left(pace: Pace, shown: str) -> None:
    said = io.StringIO()
    with BarWatch(Console(file=said, force_terminal=True, width=150, color_system=None)) as bar:
        bar.step("folding the log anew")
        bar.pace(pace)
        bar._bars.refresh()
    text = said.getvalue()
    assert "folding the log anew" in text
    assert shown in " ".join(text.split())


def test_without_a_terminal_only_the_steps_are_printed() -> None:
    said = io.StringIO()

    async def work(watch: Watch) -> None:
        watch.step("compared 3 entities: 0 differ [not markup]")
        watch.pace(Pace(1, 2, 3.0, 4.0))

    run_watched(Console(file=said, width=20), work)
    assert said.getvalue() == "compared 3 entities: 0 differ [not markup]\n"
