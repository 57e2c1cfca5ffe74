"""What the page of runs shows of a param."""

from runtide_queries.server.pages.runs import chip


def test_a_short_value_is_shown_whole() -> None:
    assert chip("depth", "3") == '<span class="chip" title="depth = 3"><b>depth </b>3</span>'


def test_of_a_long_value_the_beginning_is_shown() -> None:
    shown = chip("prompt", "x" * 6_000)
    assert shown.count("x" * 200 + "…") == 2
    assert len(shown) < 500
