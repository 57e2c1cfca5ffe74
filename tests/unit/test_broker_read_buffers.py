"""Memory for reads: never shared by two, used again, bounded, given back."""

from runtide_deploy.broker.log.read_buffers import ReadBuffers


def test_memory_is_used_again_once_no_view_of_it_is_left() -> None:
    buffers = ReadBuffers(keep_bytes=100)
    first = buffers.take(60)
    kept = first.obj
    part = first[10:20].toreadonly()
    del first
    assert buffers.take(40).obj is not kept
    del part
    assert buffers.take(50).obj is kept


def test_two_views_at_a_time_never_share_memory() -> None:
    buffers = ReadBuffers(keep_bytes=1000)
    views = [buffers.take(100) for _ in range(20)]
    for number, view in enumerate(views):
        view[:] = bytes([number]) * 100
    assert [bytes(view) for view in views] == [bytes([number]) * 100 for number in range(20)]


def test_only_so_much_is_kept_and_larger_buffers_rather_than_smaller() -> None:
    buffers = ReadBuffers(keep_bytes=100)
    for size in (40, 40, 70, 200):
        buffers.take(size)
    assert buffers.kept_bytes == 70


def test_what_was_not_used_for_a_while_is_given_back() -> None:
    buffers = ReadBuffers(keep_bytes=100)
    buffers.take(60)
    buffers.release_unused()
    assert buffers.kept_bytes == 60
    buffers.release_unused()
    assert buffers.kept_bytes == 0
