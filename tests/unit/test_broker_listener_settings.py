"""What the listener speaks follows from what is set; what contradicts itself is refused with what to change."""

from pathlib import Path

import pytest

from runtide_deploy.broker.errors import CannotStart, InvalidSettings
from runtide_deploy.broker.settings import VARIABLE_PREFIX, BrokerSettings


def settings(**given: str) -> BrokerSettings:
    environment = {f"{VARIABLE_PREFIX}{name.upper()}": value for name, value in given.items()}
    return BrokerSettings.read({"data": Path("data")}, environment, VARIABLE_PREFIX)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls_certificate": "c"}, "SSL"),
        ({"credentials": "c"}, "SASL_PLAINTEXT"),
        ({"tls_certificate": "c", "credentials": "c"}, "SASL_SSL"),
        ({"tls_certificate": "c", "credentials": "c", "security_protocol": "SASL_SSL"}, "SASL_SSL"),
    ],
)
def test_the_protocol_follows_from_the_files(given: dict[str, str], protocol: str) -> None:
    found = settings(**given)
    found.check()
    assert found.protocol == protocol


def test_a_client_ca_means_required() -> None:
    assert settings(tls_certificate="c").client_auth == "none"
    assert settings(tls_certificate="c", tls_client_ca="a").client_auth == "required"
    assert settings(tls_certificate="c", tls_client_ca="a", tls_client_auth="requested").client_auth == "requested"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs --tls-certificate"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "needs --credentials"),
        ({"security_protocol": "PLAINTEXT", "tls_certificate": "c"}, "use SSL"),
        ({"security_protocol": "SSL", "tls_certificate": "c", "credentials": "c"}, "use SASL_SSL"),
        ({"security_protocol": "KERBEROS"}, "must be one of"),
        ({"tls_key": "key.pem"}, "need --tls-certificate"),
        ({"tls_certificate": "c", "tls_client_auth": "required"}, "needs --tls-client-ca"),
        (
            {"tls_certificate": "c", "tls_client_ca": "a", "tls_client_auth": "none"},
            "contradicts --tls-client-auth none",
        ),
        ({"sasl_mechanisms": "GSSAPI"}, "must name some of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"sasl_mechanisms": " , "}, "must name some of"),
        ({"host": "0.0.0.0"}, "say with --advertised-host"),
        ({"host": "::"}, "say with --advertised-host"),
        ({"host": ""}, "say with --advertised-host"),
        ({"advertised_host": "0.0.0.0"}, "no address that clients can connect to"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        settings(**given).check()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tls_certificate": "/no.pem"}, "cannot read /no.pem"),
        ({"tls_certificate": __file__}, "no certificate and unencrypted key that belong together"),
    ],
)
def test_files_of_tls_that_cannot_be_used_are_named(given: dict[str, str], said: str) -> None:
    from runtide_deploy.broker.security.tls import server_context

    with pytest.raises(CannotStart, match=said):
        server_context(settings(**given))
