"""The served APIs. This table is the truth: ApiVersions, the dispatcher and the tests derive from it."""

from typing import Final

from runtide_deploy.broker.api import (
    api_versions,
    create_topics,
    fetch,
    find_coordinator,
    init_producer_id,
    list_offsets,
    metadata,
    produce,
)
from runtide_deploy.broker.api.registration import Api

APIS: Final[dict[int, Api]] = {
    module.API.key: module.API
    for module in (
        api_versions,
        create_topics,
        fetch,
        find_coordinator,
        init_producer_id,
        list_offsets,
        metadata,
        produce,
    )
}
