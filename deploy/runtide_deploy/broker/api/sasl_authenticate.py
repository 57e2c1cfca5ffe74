"""SaslAuthenticate (KIP-152): the messages of the mechanism. Sessions do not expire (KIP-368): their lifetime is 0."""

from collections.abc import Awaitable

from kio.schema.errors import ErrorCode
from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest
from kio.schema.sasl_authenticate.v2.response import SaslAuthenticateResponse

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.state import RequestContext


def handle(
    request: SaslAuthenticateRequest, context: RequestContext
) -> SaslAuthenticateResponse | Awaitable[SaslAuthenticateResponse]:
    """Go on with the exchange; where there is none to go on with, answer as Apache Kafka does."""
    session = context.session
    if session is None or session.is_authenticated:
        told = "SaslAuthenticate request received after successful authentication"
        return SaslAuthenticateResponse(error_code=ErrorCode.illegal_sasl_state, error_message=told, auth_bytes=b"")
    return _answer(session.advance(request.auth_bytes))


async def _answer(told: Awaitable[bytes]) -> SaslAuthenticateResponse:
    try:
        token = await told
    except Refused as refused:
        return SaslAuthenticateResponse(error_code=refused.code, error_message=refused.message, auth_bytes=b"")
    return SaslAuthenticateResponse(error_code=ErrorCode.none, error_message=None, auth_bytes=token)
