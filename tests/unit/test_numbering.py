"""Who a service's events are from, and their numbers: none is ever left out, and none is given twice."""

from runtide.numbering import OneWriter, WriterPerRun


def test_one_writer_counts_per_topic_and_run() -> None:
    numbering = OneWriter("w")  # type: ignore[arg-type]
    taken = [numbering.take(*about) for about in (("t", "a"), ("t", "a"), ("u", "a"), ("t", "b"))]
    assert taken == [("w", 0), ("w", 1), ("w", 0), ("w", 0)]
    numbering.give_up("t", "a")
    assert numbering.take("t", "a") == ("w", 2)


def test_each_run_has_a_writer_of_its_own_that_counts_per_topic() -> None:
    numbering = WriterPerRun(10)
    assert not numbering.knows("a")
    writer = numbering.writer_of("a")
    assert numbering.knows("a")
    assert [numbering.take(topic, "a") for topic in ("t", "t", "u")] == [(writer, 0), (writer, 1), (writer, 0)]
    assert numbering.take("t", "b")[0] != writer


def test_a_number_that_may_be_lost_is_followed_by_another_writer() -> None:
    numbering = WriterPerRun(10)
    writer, _ = numbering.take("t", "a")
    numbering.give_up("t", "a")
    after, seq = numbering.take("t", "a")
    assert after != writer
    assert seq == 0


def test_the_run_that_was_not_written_to_for_longest_is_forgotten() -> None:
    numbering = WriterPerRun(2)
    first = {run: numbering.take("t", run)[0] for run in "ab"}
    numbering.take("t", "a")
    numbering.take("t", "c")
    assert [numbering.knows(run) for run in "abc"] == [True, False, True]
    assert numbering.take("t", "a") == (first["a"], 2)
    assert numbering.take("t", "b")[0] != first["b"]
