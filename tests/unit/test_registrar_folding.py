"""The registrar's state is a fold of the catalogue: restarts, duplicates, damage and zombies change nothing."""

from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_consumers.registrar.folding import apply
from runtide_consumers.registrar.service import answer_records
from runtide_consumers.registrar.state import Catalogue
from runtide_schemas import topics
from runtide_schemas.codec import HEADER_SIZE, encode
from runtide_schemas.confluent import SchemaPending, header
from runtide_schemas.envelope import to_headers
from runtide_schemas.errors import TransientError
from runtide_schemas.events.catalog import ExperimentCreated, ModelVersionRegistered, RequestRejected
from runtide_schemas.events.requests import CreateExperiment, RegisterModelVersion
from tests.random_history import request, request_event


@dataclass(frozen=True)
class Record:
    """A record of runtide.requests."""

    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str = topics.REQUESTS
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None


def record_of(body: Any, offset: int, writer: str = "client", seq: int | None = None) -> Record:
    """Return the record of a request."""
    envelope = request_event(body, offset, writer, seq).envelope
    return Record(offset, encode(body), tuple(to_headers(envelope)))


def facts_of(state: Catalogue, *records: Record) -> list[Any]:
    """Return the facts that answer records."""
    return [fact for _, fact in answer_records(state, records)]


@given(st.randoms(use_true_random=False), st.integers(min_value=0, max_value=60))
def test_a_registrar_that_restarts_anywhere_decides_the_same(random: Random, cut: int) -> None:
    records = [record_of(request(random), offset) for offset in range(60)]
    at_once = Catalogue()
    facts = facts_of(at_once, *records)
    assert len(facts) == len(records)
    restarted = Catalogue()
    for fact in facts[:cut]:
        apply(restarted, fact)
    assert facts_of(restarted, *records[restarted.last_request_offset + 1 :]) == facts[cut:]
    assert asdict(restarted) == asdict(at_once)


@given(st.randoms(use_true_random=False))
def test_a_second_registrar_at_the_same_time_does_no_harm(random: Random) -> None:
    records = [record_of(request(random), offset) for offset in range(40)]
    first, second = (facts_of(Catalogue(), *records) for _ in range(2))
    mixed: list[Any] = []
    left = [list(first), list(second)]
    while any(left):
        mixed.append(random.choice([facts for facts in left if facts]).pop(0))
    once, both = Catalogue(), Catalogue()
    assert all(apply(once, fact) for fact in first)
    assert sum(apply(both, fact) for fact in mixed) == len(first)
    assert asdict(once) == asdict(both)


@given(st.randoms(use_true_random=False))
def test_names_stay_unique_and_numbers_are_never_used_twice(random: Random) -> None:
    state = Catalogue()
    facts = facts_of(state, *(record_of(request(random), offset) for offset in range(80)))
    versions = [(fact.name, fact.version) for fact in facts if isinstance(fact, ModelVersionRegistered)]
    assert len(versions) == len(set(versions))
    ids = [fact.experiment_id for fact in facts if isinstance(fact, ExperimentCreated)]
    assert ids == [str(number) for number in range(1, len(ids) + 1)]
    names = [experiment.name for experiment in state.experiments.values()]
    assert sorted(names) == sorted(state.experiment_ids)
    for model in state.models.values():
        assert set(model.aliases.values()) <= set(model.versions)


def test_a_request_sent_again_gets_no_second_answer() -> None:
    state = Catalogue()
    body = RegisterModelVersion(name="m", source="s")
    assert len(facts_of(state, record_of(body, 0, seq=0), record_of(body, 1, seq=1))) == 2
    assert facts_of(state, record_of(body, 2, seq=0), record_of(body, 3, seq=1)) == []
    assert [fact.version for fact in facts_of(state, record_of(body, 4, seq=2))] == [3]
    assert [fact.version for fact in facts_of(state, record_of(body, 5, writer="other", seq=0))] == [4]


def test_a_late_request_that_was_never_answered_is() -> None:
    state = Catalogue()
    ahead, late = CreateExperiment(name="ahead"), CreateExperiment(name="late")
    facts = facts_of(state, record_of(ahead, 0, seq=3), record_of(late, 1, seq=1), record_of(late, 2, seq=1))
    assert [fact.name for fact in facts] == ["ahead", "late"]


@pytest.mark.parametrize("value", [None, b"", b"\xc3\x01unknown!", encode(CreateExperiment(name="nul \x00"))])
def test_a_damaged_request_is_rejected_when_it_says_who_asks(value: bytes | None) -> None:
    state = Catalogue()
    facts = facts_of(state, replace(record_of(CreateExperiment(name="e"), 5), value=value))
    assert [type(fact) for fact in facts] == [RequestRejected]
    assert facts[0].code == "INVALID_PARAMETER_VALUE"
    assert state.last_request_offset == 5


@pytest.mark.parametrize("headers", [(), (("ce_type", b"\xff"),), (("ce_id", b"x"),)])
def test_a_request_of_nobody_is_left_out_and_the_next_is_answered(headers: Any) -> None:
    state = Catalogue()
    nobody = replace(record_of(CreateExperiment(name="e"), 0), headers=headers)
    facts = facts_of(state, nobody, record_of(CreateExperiment(name="f"), 1))
    assert [(fact.name, fact.experiment_id) for fact in facts] == [("f", "1")]


def test_a_request_too_large_to_answer_is_rejected() -> None:
    tags = {f"k{number}": "x" * 4_000 for number in range(300)}
    facts = facts_of(Catalogue(), record_of(CreateExperiment(name="e", tags=tags), 0))
    assert isinstance(facts[0], RequestRejected)
    assert "limit is 1048576" in facts[0].message


def test_a_request_whose_answer_the_broker_would_refuse_is_rejected_and_the_next_one_answered() -> None:
    tags = {f"tag-{number}": "x" * 100_000 for number in range(10)} | {"last": "x" * 30_000}
    large = record_of(RegisterModelVersion(name="m", source="runs:/r/m", tags=tags), 0)
    assert len(large.value or b"") < 1024 * 1024
    small = record_of(CreateExperiment(name="e"), 1)
    rejected, created = facts_of(Catalogue(), large, small)
    assert isinstance(rejected, RequestRejected)
    assert "less text and tags" in rejected.message
    assert isinstance(created, ExperimentCreated)


def test_a_request_whose_schema_may_come_leaves_the_state_alone() -> None:
    """Were a request before it answered, its fact would be in the state and nowhere else."""

    def pending(identifier: int) -> Any:
        raise SchemaPending(f"the schema registry does not know schema id {identifier}")

    first, second = (record_of(CreateExperiment(name=name), offset) for offset, name in enumerate(("one", "two")))
    assert second.value is not None
    framed = replace(second, value=header(7) + second.value[HEADER_SIZE:])
    state = Catalogue()
    with pytest.raises(TransientError, match="schema id 7"):
        answer_records(state, [first, framed], pending)
    assert asdict(state) == asdict(Catalogue())
