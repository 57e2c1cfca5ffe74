"""The served APIs. This table is the truth: ApiVersions, the dispatcher and the tests derive from it."""

from typing import Final

from runtide_deploy.broker.api import (
    api_versions,
    create_partitions,
    create_topics,
    delete_groups,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    fetch,
    find_coordinator,
    heartbeat,
    init_producer_id,
    join_group,
    leave_group,
    list_groups,
    list_offsets,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    produce,
    sync_group,
)
from runtide_deploy.broker.api.registration import Api

APIS: Final[dict[int, Api]] = {
    module.API.key: module.API
    for module in (
        api_versions,
        create_partitions,
        create_topics,
        delete_groups,
        delete_topics,
        describe_cluster,
        describe_configs,
        describe_groups,
        fetch,
        find_coordinator,
        heartbeat,
        init_producer_id,
        join_group,
        leave_group,
        list_groups,
        list_offsets,
        metadata,
        offset_commit,
        offset_delete,
        offset_fetch,
        produce,
        sync_group,
    )
}
