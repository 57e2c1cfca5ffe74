"""An experiment that was looked up before counts only once all that the log says of the catalogue was heard."""

from collections.abc import Callable, Iterable, Mapping

import pytest

from runtide_queries.commands import Ends, KnownExperiments
from runtide_queries.experiments import Experiment, ExperimentDetail
from runtide_schemas import topics
from runtide_schemas.errors import NotFound

PLACE = (topics.CATALOG, 0)


class Stack:
    """A log of so many records of the catalogue, and a store that has folded them all."""

    def __init__(self) -> None:
        self.end = 5
        self.stage = "active"
        self.looked_up = 0
        self.meanwhile: Callable[[], None] = lambda: None
        self.experiments = KnownExperiments(Ends(self._ends), self._look_up)

    async def _ends(self, wanted: Iterable[str]) -> Mapping[tuple[str, int], int]:
        assert topics.CATALOG in set(wanted)
        return {PLACE: self.end, (topics.RUNS, 0): 1_000}

    async def _look_up(self, experiment_id: str) -> ExperimentDetail:
        if experiment_id == "9":
            raise NotFound(experiment_id)
        self.looked_up += 1
        found = Experiment(
            experiment_id=experiment_id,
            name="vision",
            artifact_location="",
            lifecycle_stage=self.stage,
            created_at=1,
            updated_at=1,
        )
        self.meanwhile()
        return ExperimentDetail(experiment=found, tags={})

    async def stage_of(self, experiment_id: str = "1") -> str:
        return (await self.experiments.get(experiment_id)).experiment.lifecycle_stage

    def write(self, stage: str) -> None:
        self.end, self.stage = self.end + 1, stage

    def hear(self, *, changed: bool = True) -> None:
        self.experiments.heard(PLACE, self.end, changed=changed)


@pytest.fixture
def stack() -> Stack:
    stack = Stack()
    stack.hear()
    return stack


async def test_it_is_looked_up_once(stack: Stack) -> None:
    assert [await stack.stage_of() for _ in range(3)] == ["active"] * 3
    assert stack.looked_up == 1


async def test_it_is_looked_up_again_while_something_in_the_log_was_not_heard(stack: Stack) -> None:
    await stack.stage_of()
    stack.write("deleted")
    assert await stack.stage_of() == "deleted"
    stack.hear()
    assert await stack.stage_of() == "deleted"
    assert stack.looked_up == 3


async def test_what_is_said_of_models_changes_no_experiment(stack: Stack) -> None:
    await stack.stage_of()
    stack.write("active")
    stack.hear(changed=False)
    await stack.stage_of()
    assert stack.looked_up == 1


async def test_what_was_being_looked_up_when_something_was_said_is_not_kept(stack: Stack) -> None:
    def say() -> None:
        stack.write("deleted")
        stack.hear()

    stack.meanwhile = say
    assert await stack.stage_of() == "active"
    stack.meanwhile = lambda: None
    assert await stack.stage_of() == "deleted"


async def test_nothing_is_kept_while_the_log_is_not_followed(stack: Stack) -> None:
    await stack.stage_of()
    stack.experiments.lost()
    stack.stage = "deleted"
    assert [await stack.stage_of() for _ in range(2)] == ["deleted"] * 2
    assert stack.looked_up == 3


async def test_one_that_is_not_there_may_come(stack: Stack) -> None:
    with pytest.raises(NotFound):
        await stack.stage_of("9")
    assert await stack.stage_of("1") == "active"
