"""What the callout takes for a server's question, without a server."""

import time
from typing import Any

import pytest

from natsbridge.errors import InvalidClaims, RejectedQuestion
from natsbridge.identity import nkeys, xkeys
from natsbridge.identity.jwt import decode_jwt, signed
from natsbridge.identity.nkeys import KeyPair
from natsbridge.protocol.login_request import (
    XKEY_HEADER,
    Authority,
    Login,
    admission,
    read_question,
    refusal,
    sentinel_jwt,
)

AUTHORITY = Authority(nkeys.generate("account"), xkeys.generate())
SERVER, OTHER_SERVER = nkeys.generate("server"), nkeys.generate("server")
SERVER_XKEY = xkeys.generate()
USER = nkeys.generate("user")
NOW = int(time.time())


def question(
    *,
    issuer: KeyPair = SERVER,
    subject: str = AUTHORITY.account.public,
    audience: str = "nats-authorization-request",
    issued_at: int = NOW,
    sealed_by: KeyPair = SERVER_XKEY,
    sealed_for: str = AUTHORITY.xkey.public,
    **nats: Any,
) -> bytes:
    body = {
        "type": "authorization_request",
        "server_id": {"id": SERVER.public, "xkey": SERVER_XKEY.public, "name": "n1"},
        "user_nkey": USER.public,
        "client_info": {"host": "10.0.0.7", "id": 5, "kind": "Client", "type": "nats"},
        "connect_opts": {"user": "anna", "pass": "secret", "protocol": 1},
    } | nats
    jwt = signed(
        issuer,
        subject,
        body,
        name="",
        issued_at=issued_at,
        expires_at=issued_at + 10,
        audience=audience,
    )
    return xkeys.seal(jwt.encode(), seed=sealed_by.seed, recipient=sealed_for)


def read(data: bytes, header: str = SERVER_XKEY.public) -> Login:
    return read_question(data, {XKEY_HEADER: header}, AUTHORITY, now=NOW)


def test_a_servers_question_is_read() -> None:
    login = read(question())
    assert (login.username, login.password) == ("anna", "secret")
    assert (login.server, login.user_key, login.address) == (
        SERVER.public,
        USER.public,
        "10.0.0.7",
    )
    assert login.is_by_a_client


def test_the_password_shows_in_no_traceback() -> None:
    assert "secret" not in repr(read(question()))
    assert "anna" not in repr(read(question()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"eyJ0", "malformed"),
        (b"xkv1" + b"\0" * 100, "malformed"),
        (b"x" * 70_000, "larger"),
        (question(sealed_for=SERVER_XKEY.public), "malformed"),
        (question(sealed_by=xkeys.generate()), "malformed"),
        (question(issuer=nkeys.generate("account")), "not signed by a server"),
        (question(issuer=OTHER_SERVER), "another server"),
        (question(audience="somebody"), "not meant"),
        (question(subject=USER.public), "another account"),
        (question(user_nkey=SERVER.public), "no user's key"),
        (question(user_nkey=7), "malformed"),
        (question(connect_opts=[]), "malformed"),
        (question(type="user"), "not a question"),
        (question(issued_at=NOW - 61), "61 s ago"),
        (question(issued_at=NOW + 61), "-61 s ago"),
    ],
    # Keys are random, and so is what they seal.
    ids=lambda value: value if isinstance(value, str) else "question",
)
def test_what_no_server_of_that_name_has_just_asked_is_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(RejectedQuestion, match=reason) as caught:
        read(data)
    assert "secret" not in str(caught.value)


def test_a_question_whose_seal_is_not_the_named_servers_is_rejected() -> None:
    other = xkeys.generate()
    with pytest.raises(RejectedQuestion, match="another key"):
        read(question(sealed_by=other), header=other.public)
    with pytest.raises(RejectedQuestion, match="malformed"):
        read_question(question(), {}, AUTHORITY, now=NOW)


@pytest.mark.parametrize(
    ("client", "is_client"),
    [
        ({"kind": "Client", "type": "websocket"}, True),
        ({"kind": "Client", "type": "mqtt"}, False),
        ({"kind": "Leafnode", "type": "nats"}, False),
        ({}, False),
    ],
)
def test_only_the_listeners_for_clients_count_as_such(
    client: dict[str, str], is_client: bool
) -> None:
    assert read(question(client_info=client)).is_by_a_client == is_client


def test_an_answer_is_for_the_one_login_and_the_one_server() -> None:
    login = read(question())
    for answer, verdict in (
        (admission(login, AUTHORITY, "a.user.jwt", issued_at=NOW), {"jwt": "a.user.jwt"}),
        (refusal(login, AUTHORITY, "no", issued_at=NOW), {"error": "no"}),
    ):
        opened = xkeys.unseal(answer, seed=SERVER_XKEY.seed, sender=AUTHORITY.xkey.public)
        said = decode_jwt(opened.decode())
        assert (said["iss"], said["sub"], said["aud"]) == (
            AUTHORITY.account.public,
            USER.public,
            SERVER.public,
        )
        assert said["nats"].items() >= verdict.items()
        with pytest.raises(InvalidClaims):
            xkeys.unseal(answer, seed=xkeys.generate().seed, sender=AUTHORITY.xkey.public)


def test_the_sentinel_may_do_nothing() -> None:
    jwt = sentinel_jwt(AUTHORITY.account, user_public=USER.public, issued_at=NOW)
    nats = decode_jwt(jwt)["nats"]
    assert nats["bearer_token"]
    assert nats["pub"] == nats["sub"] == {"deny": [">"]}


def test_a_mistyped_curve_key_is_none() -> None:
    pair = xkeys.generate()
    assert xkeys.public_of(pair.seed) == pair.public
    assert xkeys.is_public_xkey(pair.public)
    mistyped = pair.seed[:20] + ("A" if pair.seed[20] != "A" else "B") + pair.seed[21:]
    for seed in (mistyped, USER.seed, "", "SX"):
        with pytest.raises(InvalidClaims):
            xkeys.public_of(seed)
    for public in (USER.public, pair.public[:-1], ""):
        assert not xkeys.is_public_xkey(public)
        with pytest.raises(InvalidClaims):
            xkeys.seal(b"x", seed=pair.seed, recipient=public)
