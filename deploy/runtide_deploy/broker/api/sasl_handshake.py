"""SaslHandshake (KIP-43): the client names its SASL mechanism.

Version 0, after which raw tokens would follow without Kafka's header, is answered with UNSUPPORTED_VERSION; it stays in
the table because librdkafka takes a broker that lacks it for one without SASL.
"""

from kio.schema.errors import ErrorCode
from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest
from kio.schema.sasl_handshake.v1.response import SaslHandshakeResponse

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import RequestContext


def handle(request: SaslHandshakeRequest, context: RequestContext) -> SaslHandshakeResponse:
    """Take the mechanism, or refuse with those that are served; without SASL as Apache Kafka does."""
    session = context.session
    if session is None:
        return SaslHandshakeResponse(error_code=ErrorCode.illegal_sasl_state)
    try:
        mechanisms = session.begin(request.mechanism, context.version)
    except Refused as refused:
        served = session.mechanisms if refused.code is ErrorCode.unsupported_sasl_mechanism else ()
        return SaslHandshakeResponse(error_code=refused.code, mechanisms=served)
    return SaslHandshakeResponse(error_code=ErrorCode.none, mechanisms=mechanisms)
