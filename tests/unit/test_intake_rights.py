"""What may be brought with the log token, and what wants the full one: every type that clients publish is decided on."""

from dataclasses import replace

import pytest

from runtide_queries.intake_rights import A_JOB_STATES, FULL_TOKEN_ONLY, check_rights, may_bring
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.topics import LIVENESS, METRICS, REQUESTS, RUNS
from tests.unit.sample_events import sample

OPEN = (RUNS, METRICS, LIVENESS, REQUESTS)
OF_SERVICES = {"RunLost", "RunRecovered", "RunPurged", "RunArtifactsRemoved"}
FROM_CLIENTS = {name for name, kind in EVENT_TYPES.items() if kind.topic in OPEN} - OF_SERVICES
FROM_SERVICES = set(EVENT_TYPES) - FROM_CLIENTS


def test_every_type_that_clients_publish_is_in_one_table() -> None:
    assert A_JOB_STATES | FULL_TOKEN_ONLY == FROM_CLIENTS
    assert not A_JOB_STATES & FULL_TOKEN_ONLY


def test_the_log_token_takes_nothing_away_and_promotes_and_deploys_nothing() -> None:
    dangerous = ("RunDeleted", "RunRestored", "SetAlias", "TransitionStage", "RequestDeployment", "RemoveDeployment")
    verbs = ("Delete", "Rename", "Restore", "Remove")
    for name in {*dangerous, *(name for name in FROM_CLIENTS if name.startswith(verbs))}:
        assert not may_bring(name, full=False), name
        assert may_bring(name, full=True), name


@pytest.mark.parametrize("full", [False, True])
def test_nobody_brings_what_services_state(full: bool) -> None:
    assert not [name for name in (*FROM_SERVICES, "DropTables", "") if may_bring(name, full)]


def test_a_version_registered_with_aliases_is_a_promotion() -> None:
    plain = replace(sample("RegisterModelVersion"), aliases=())
    promoted = replace(plain, aliases=("champion",))
    for body, full in ((plain, False), (plain, True), (promoted, True), (sample("RunStarted"), False)):
        check_rights(body, full)
    for body in (promoted, sample("RunDeleted")):
        with pytest.raises(InvalidRequest, match="full token") as refused:
            check_rights(body, full=False)
        assert refused.value.code == "PERMISSION_DENIED"
