"""What every store can hold, checked alike by who states an event and by who folds it."""

from typing import Any

import pytest

from runtide_schemas.errors import PoisonEvent
from runtide_schemas.events.logged_models import ModelLink, RunModelsLinked
from runtide_schemas.events.runs import DatasetInput, InputsLogged, RunUpdated, TagsSet
from runtide_schemas.storable import check_storable

RUN = "a" * 32
DATASET: dict[str, Any] = {
    "name": "d",
    "digest": "1",
    "source_type": "s",
    "source": "x",
    "schema": "",
    "profile": "",
    "tags": {},
}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (RunUpdated(run_id=RUN, name="a\0b"), r"RunUpdated\.name contains a NUL character at position 1"),
        (TagsSet(run_id=RUN, tags={"a\0": "b"}), r"a key of TagsSet\.tags"),
        (TagsSet(run_id=RUN, tags={"a": "\0"}), r"TagsSet\.tags\['a'\]"),
        (TagsSet(run_id=RUN, tags={"a" * 1_025: ""}), "has 1025 bytes; the limit is 1024"),
        (
            InputsLogged(run_id=RUN, datasets=(DatasetInput(**DATASET | {"source": "\0"}),)),
            r"InputsLogged\.datasets\.source",
        ),
        (
            RunModelsLinked(run_id=RUN, links=(ModelLink(model_id="\U0001f600" * 129, role="input"),)),
            "516 bytes; the limit is 512",
        ),
    ],
)
def test_what_no_store_can_hold(body: Any, where: str) -> None:
    with pytest.raises(PoisonEvent, match=where):
        check_storable(body)


def test_what_all_can() -> None:
    check_storable(RunUpdated(run_id=RUN, name="\x01 \U0001f600" * 1_000))
    check_storable(TagsSet(run_id=RUN, tags={"a" * 1_024: "b" * 100_000}))
