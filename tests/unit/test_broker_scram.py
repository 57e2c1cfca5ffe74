"""SCRAM: the RFCs' own example, and messages that nobody should send."""

import base64
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_deploy.broker.security.scram import (
    ClientFirst,
    ScramError,
    ScramExchange,
    Verifier,
    decoy_verifier,
    make_verifier,
    password_fits,
)

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def exchange(first: bytes = FIRST, password: bytes = b"pencil") -> ScramExchange:
    verifier = make_verifier("SCRAM-SHA-256", password, 4096, SALT)
    return ScramExchange("SCRAM-SHA-256", ClientFirst.parse(first), verifier, SERVER_NONCE)


def test_the_example_of_rfc_7677() -> None:
    ours = exchange()
    assert ours.challenge == (b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert ours.finish(FINAL) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_wrong_password_is_refused() -> None:
    with pytest.raises(ScramError, match="wrong password"):
        exchange(password=b"pencils").finish(FINAL)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (FINAL.replace(b"c=biws", b"c=eSws"), "GS2 header"),
        (FINAL.replace(b"k0,p", b"k1,p"), "another nonce"),
        (FINAL.replace(b"p=dH", b"p=dI"), "wrong password"),
        (FINAL[:-4], "wrong length"),
        (FINAL[:-1], "base64"),
        (FINAL.replace(b"c=biws", b"c=%%%%"), "malformed"),
        (b"", "malformed"),
        (b"c=biws,r=" + NONCE.encode(), "malformed"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_bad_final_messages(message: bytes, why: str) -> None:
    with pytest.raises(ScramError, match=why):
        exchange().finish(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,r=abc,n=user",
        b"n,,n=user,r=",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=user=2c,r=abc",
        b"n,,m=must,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=,n=user,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=user,r=a b",
        b"\xff,,n=user,r=abc",
        b"n,,n=user,r=abc,",
        b"n,,n=user,r=abc\n",
    ],
)
def test_bad_first_messages(message: bytes) -> None:
    with pytest.raises(ScramError):
        ClientFirst.parse(message)


def test_names_are_unescaped_and_extensions_ignored() -> None:
    parsed = ClientFirst.parse(b"y,a=b=3D,n=a=2Cb=3D2C,r=abc,tokenauth=true")
    assert (parsed.user, parsed.authorization, parsed.header) == ("a,b=2C", "b=", "y,a=b=3D,")
    assert parsed.bare == "n=a=2Cb=3D2C,r=abc,tokenauth=true"


@given(st.binary(max_size=200) | st.text(alphabet="n,=ar2CD3bcy\0é", max_size=60).map(str.encode))
def test_any_first_message_is_parsed_or_refused(message: bytes) -> None:
    try:
        parsed = ClientFirst.parse(message)
    except ScramError:
        return
    assert (parsed.header + parsed.bare).encode() == message


def test_any_change_of_a_final_message_is_refused() -> None:
    changes = random.Random(7)
    for _ in range(2000):
        message = bytearray(FINAL)
        for _ in range(changes.randint(1, 3)):
            message[changes.randrange(len(message))] ^= 1 << changes.randrange(8)
        if bytes(message) != FINAL:
            with pytest.raises(ScramError):
                exchange_of().finish(bytes(message))


_VERIFIER = make_verifier("SCRAM-SHA-256", b"pencil", 4096, SALT)


def exchange_of(verifier: Verifier = _VERIFIER) -> ScramExchange:
    return ScramExchange("SCRAM-SHA-256", ClientFirst.parse(FIRST), verifier, SERVER_NONCE)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_decoy_looks_like_a_user_and_fits_nothing(mechanism: str) -> None:
    real = make_verifier(mechanism, b"secret", 4096)
    decoy = decoy_verifier(mechanism, "nobody", b"key", 4096)
    assert sizes(decoy) == sizes(real)
    assert decoy.salt == decoy_verifier(mechanism, "nobody", b"key", 4096).salt
    assert decoy.salt != decoy_verifier(mechanism, "someone", b"key", 4096).salt
    assert not password_fits(mechanism, decoy, b"")
    assert password_fits(mechanism, real, b"secret")
    assert not password_fits(mechanism, real, b"Secret")


def sizes(verifier: Any) -> tuple[int, ...]:
    return (len(verifier.salt), len(verifier.stored_key), len(verifier.server_key), verifier.iterations)
