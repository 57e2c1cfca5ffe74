"""Clients newer than the broker: tagged fields that it does not know are skipped (KIP-482)."""

import pytest
from kio.index import load_request_schema
from kio.schema.create_topics.v7.request import CreateTopicsRequest
from kio.schema.fetch.v12.request import FetchRequest
from kio.schema.metadata.v12.request import MetadataRequest

from runtide_deploy.broker.api.table import APIS
from runtide_deploy.broker.errors import MalformedRequest
from runtide_deploy.broker.wire.codec import Codec
from runtide_deploy.broker.wire.tagged_fields import without_unknown_tags
from tests.broker_process import RawClient, written
from tests.conformance.test_broker_protocol import fetch, filled

UNKNOWN = b"\x02\x63\x03abc\xce\x10\x01z"
"""A section of two tagged fields that no version has: 99 and 2126."""

FLEXIBLE = [
    (api.key, version)
    for api in APIS.values()
    for version in range(api.lowest, api.newest + 1)
    if load_request_schema(api.key, version).__flexible__
]


def framed(key: int, version: int, body: bytes, tags: bytes = UNKNOWN) -> bytes:
    """A request with header version 2: correlation id 7, client id "c"."""
    return key.to_bytes(2, "big") + version.to_bytes(2, "big") + b"\x00\x00\x00\x07" + b"\x00\x01c" + tags + body


def test_in_the_header_in_elements_and_at_the_end(raw_kafka: RawClient, topic: str) -> None:
    name = (len(topic) + 1).to_bytes(1, "big") + topic.encode()
    partitions_and_replicas = (3).to_bytes(4, "big") + (1).to_bytes(2, "big") + b"\x01\x01"
    timeout_and_no_validation = (30_000).to_bytes(4, "big") + b"\x00"
    create = b"\x02" + name + partitions_and_replicas + UNKNOWN + timeout_and_no_validation + UNKNOWN
    no_id_and_name = bytes(16) + name
    describe = b"\x02" + no_id_and_name + UNKNOWN + b"\x00\x00" + UNKNOWN
    for kind, body in ((CreateTopicsRequest, create), (MetadataRequest, describe)):
        frame = framed(int(kind.__api_key__), int(kind.__version__), body)
        raw_kafka.send_bytes(len(frame).to_bytes(4, "big") + frame)
        [answered] = raw_kafka.receive(kind).topics
        assert answered.name == topic
    assert answered.error_code == 0 or answered.partitions == ()


def test_known_tagged_fields_beside_unknown_ones_are_kept() -> None:
    request = fetch("t", cluster_id="x")
    known = b"\x00\x02\x02x"
    body = written(request)
    assert body.endswith(b"\x01" + known)
    body = body[: -len(known) - 1] + b"\x02" + known + b"\x63\x03abc"
    key, version = int(FetchRequest.__api_key__), int(FetchRequest.__version__)
    header, decoded = Codec(key, version, version).decode(memoryview(framed(key, version, body)))
    assert (header.correlation_id, header.client_id, decoded) == (7, "c", request)


@pytest.mark.parametrize(("key", "version"), FLEXIBLE)
def test_every_request_is_walked_to_its_end(key: int, version: int) -> None:
    kind = load_request_schema(key, version)
    body = written(filled(kind, "topic"))
    assert body[-1] == 0, "no tagged field is set"
    walked = without_unknown_tags(memoryview(framed(key, version, body[:-1] + UNKNOWN)), kind)
    assert walked == framed(key, version, body, b"\x00")


@pytest.mark.parametrize("cut", [1, 5, 12, 14, 30])
def test_a_request_cut_short_is_malformed(cut: int) -> None:
    key, version = int(FetchRequest.__api_key__), int(FetchRequest.__version__)
    frame = framed(key, version, written(fetch("topic")))
    with pytest.raises(MalformedRequest, match="ends too early"):
        without_unknown_tags(memoryview(frame[:-cut]), FetchRequest)
    with pytest.raises(MalformedRequest):
        Codec(key, version, version).decode(memoryview(frame[:-cut]))
