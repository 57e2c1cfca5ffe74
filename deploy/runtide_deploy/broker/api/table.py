"""The served APIs. This table is the truth: ApiVersions, the dispatcher and the tests derive from it."""

from typing import Final

from runtide_deploy.broker.api.registration import Api

API_VERSIONS: Final = Api(18, "api_versions", lowest=0, newest=4)

APIS: Final[dict[int, Api]] = {
    api.key: api
    for api in (
        # The newest that matters without transactions: 11 and 12 change only those, 13 names topics by id.
        Api(0, "produce", lowest=3, newest=10, writes=True),
        Api(1, "fetch", lowest=4, newest=12),
        Api(2, "list_offsets", lowest=1, newest=7),
        Api(3, "metadata", lowest=0, newest=12),
        Api(8, "offset_commit", lowest=2, newest=8, writes=True),
        Api(9, "offset_fetch", lowest=1, newest=7),
        Api(10, "find_coordinator", lowest=0, newest=3),
        Api(11, "join_group", lowest=0, newest=9),
        Api(12, "heartbeat", lowest=0, newest=4),
        Api(13, "leave_group", lowest=0, newest=5),
        Api(14, "sync_group", lowest=0, newest=5),
        Api(15, "describe_groups", lowest=0, newest=5),
        Api(16, "list_groups", lowest=0, newest=4),
        Api(17, "sasl_handshake", lowest=0, newest=1),
        API_VERSIONS,
        Api(19, "create_topics", lowest=2, newest=7, writes=True),
        Api(20, "delete_topics", lowest=1, newest=5, writes=True),
        Api(21, "delete_records", lowest=0, newest=2, writes=True),
        Api(22, "init_producer_id", lowest=0, newest=5),
        Api(29, "describe_acls", lowest=1, newest=3),
        Api(30, "create_acls", lowest=1, newest=3),
        Api(31, "delete_acls", lowest=1, newest=3),
        Api(32, "describe_configs", lowest=1, newest=4),
        Api(33, "alter_configs", lowest=0, newest=2, writes=True),
        Api(36, "sasl_authenticate", lowest=0, newest=2),
        Api(37, "create_partitions", lowest=0, newest=3, writes=True),
        Api(42, "delete_groups", lowest=0, newest=2, writes=True),
        Api(44, "incremental_alter_configs", lowest=0, newest=1, writes=True),
        Api(47, "offset_delete", lowest=0, newest=0, writes=True),
        Api(60, "describe_cluster", lowest=0, newest=1),
    )
}
