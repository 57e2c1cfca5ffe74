"""The datasets that the runs of some experiments used."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtide_queries.search.paging import Ask
from runtide_queries.search.vocabularies import CONTEXT_TAG
from runtide_queries.statements import load

MAX_DATASETS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """A dataset in an experiment; ``context`` is what it was used for there (training, ...), null where nobody said."""

    experiment_id: str
    name: str
    digest: str
    context: str | None


async def search_datasets(ask: Ask, experiment_ids: Sequence[str]) -> tuple[DatasetSummary, ...]:
    """Return the distinct datasets of the runs of experiments, deleted runs included as MLflow has it: at most 1,000."""
    statement = load("search")["search_datasets"]
    asked = {"experiment_ids": list(experiment_ids), "context_tag": CONTEXT_TAG, "most": MAX_DATASETS}
    rows = await ask.fetch(statement.positional, statement.arguments(asked))
    return tuple(DatasetSummary(**row) for row in rows)
