"""What AlterConfigs and IncrementalAlterConfigs do and refuse alike, with Apache Kafka's codes (``ConfigAdminManager``)."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.topic_config import check_config
from runtide_deploy.broker.topics import Topics

TOPIC: Final = 2
BROKER: Final = 4


class ConfigResource(Protocol):
    """What the configuration is of."""

    @property
    def resource_type(self) -> int:
        """Topic, broker, ..."""
        ...

    @property
    def resource_name(self) -> str:
        """A topic's name, or a broker's id."""
        ...


Resource = TypeVar("Resource", bound=ConfigResource)


def alter(
    topics: Topics,
    resources: Sequence[Resource],
    wanted: Callable[[Resource], Mapping[str, str | None]],
    *,
    validate_only: bool,
) -> list[Refused | None]:
    """Configure, or only check, topics; return per resource why it was refused.

    What is acceptable is stored in one write: syncs hold up everybody, and a request may name any number of topics.

    Args:
        topics: of the broker.
        resources: what is to be configured.
        wanted: returns the whole configuration that a resource is to have, or raises Refused.
        validate_only: whether nothing is to change.
    """
    refused, accepted = dict(check_resources(resources)), {}
    for resource in resources:
        key = (resource.resource_type, resource.resource_name)
        if key not in refused:
            try:
                config = wanted(resource)
                accepted[topics.existing(resource.resource_name).name] = check_config(config)
            except Refused as reason:
                refused[key] = reason
    if not validate_only:
        try:
            topics.configure(accepted)
        except Refused as reason:
            refused |= dict.fromkeys(((TOPIC, name) for name in accepted), reason)
    return [refused.get((resource.resource_type, resource.resource_name)) for resource in resources]


def check_resources(resources: Sequence[ConfigResource]) -> Mapping[tuple[int, str], Refused]:
    """Return the refusal of every resource that cannot be altered at all, by type and name."""
    times = Counter((resource.resource_type, resource.resource_name) for resource in resources)
    refused = {}
    for kind, name in times:
        if times[kind, name] > 1:
            refused[kind, name] = Refused(ErrorCode.invalid_request, f"{name!r} is named twice in one request")
        elif kind == BROKER:
            refused[kind, name] = Refused(
                ErrorCode.invalid_request,
                "the broker's settings are fixed while it runs: restart it with other options "
                "(python -m runtide_deploy.broker --help)",
            )
        elif kind != TOPIC:
            refused[kind, name] = Refused(
                ErrorCode.invalid_request, f"resource type {kind}: this broker configures topics ({TOPIC}) only"
            )
    return refused


def check_keys(names: Iterable[str], nulls: Iterable[str]) -> None:
    """Check that no key comes twice and that none lacks the value it needs.

    Raises:
        Refused: INVALID_REQUEST.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise Refused(ErrorCode.invalid_request, f"duplicate configuration keys: {', '.join(twice)}")
    if missing := ", ".join(nulls):
        raise Refused(ErrorCode.invalid_request, f"no value was given for: {missing}")
