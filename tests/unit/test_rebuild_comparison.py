"""How two stores are held against each other, entity by entity."""

from collections.abc import Mapping, Sequence

from runtide_consumers.rebuild.comparison import Comparison, Difference, Share, compare

SHARES = (Share("runs", "run", "run_id"), Share("params", "run", "run_id"), Share("models", "registered model", "name"))
COLUMNS = {"runs": ("run_id", "name"), "params": ("run_id", "key"), "models": ("name",)}


class Said:
    """What a store says: a digest per table and entity."""

    def __init__(
        self,
        digests: Mapping[str, Mapping[str, str]],
        parked: Sequence[str] = (),
        columns: Mapping[str, tuple[str, ...]] = COLUMNS,
    ) -> None:
        self._digests, self._parked, self._columns = digests, frozenset(parked), columns
        self.asked: list[tuple[str, Sequence[str]]] = []

    async def columns(self) -> Mapping[str, tuple[str, ...]]:
        return self._columns

    async def parked(self) -> frozenset[str]:
        return self._parked

    async def digests(self, share: Share, columns: Sequence[str]) -> Mapping[str, str]:
        self.asked.append((share.table, columns))
        return self._digests.get(share.table, {})


async def test_what_differs_is_named_with_its_tables() -> None:
    live = Said({"runs": {"a": "1", "b": "1"}, "params": {"a": "1"}, "models": {"m": "1"}})
    rebuilt = Said({"runs": {"a": "2", "b": "1"}, "params": {"a": "2"}, "models": {"n": "1"}})
    found = await compare(live, rebuilt, SHARES)
    assert found.differences == (
        Difference("registered model", "m", ("models",)),
        Difference("registered model", "n", ("models",)),
        Difference("run", "a", ("runs", "params")),
    )
    assert found.entities == 4
    assert "run a (runs, params)" in "\n".join(found.lines())


async def test_what_waits_behind_parked_records_is_not_compared_but_parking_more_is_a_difference() -> None:
    live = Said({"runs": {"a": "1", "b": "1"}}, parked=["a"])
    rebuilt = Said({"runs": {"a": "2", "b": "1"}}, parked=["a", "b"])
    found = await compare(live, rebuilt, SHARES)
    assert found.differences == (Difference("parked entity", "b", ("quarantine",)),)
    assert found.waiting == {"a"}


async def test_stores_of_two_layouts_are_compared_by_what_both_have() -> None:
    live = Said({"runs": {"a": "1"}}, columns=COLUMNS | {"runs": ("run_id", "colour", "name"), "params": ("key",)})
    rebuilt = Said({"runs": {"a": "1"}}, columns={"runs": ("name", "run_id"), "params": ("run_id", "key")})
    found = await compare(live, rebuilt, SHARES)
    assert live.asked == rebuilt.asked == [("runs", ["name", "run_id"])]
    assert found == Comparison(
        1,
        (),
        (
            "only the live store has models (name)",
            "only the rebuilt store has params (run_id)",
            "only the live store has runs (colour)",
        ),
        frozenset(),
    )


async def test_many_differences_are_shown_in_part() -> None:
    found = await compare(Said({"runs": {str(number): "1" for number in range(50)}}), Said({}), SHARES)
    lines = found.lines()
    assert lines[0] == "compared 50 entities: 50 differ"
    assert lines[-1] == "  and 30 more"
