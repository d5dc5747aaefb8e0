"""The broker's events: whose connection it is, and that no JWT leaves the module."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from natsbridge.errors import MalformedMessage
from natsbridge.identity import claims, nkeys
from natsbridge.protocol.broker_events import read_event, without_secrets

ACCOUNT, SIGNING = nkeys.generate("account"), nkeys.generate("account")
USER, OTHER = nkeys.generate("user"), nkeys.generate("user")
DEVICE = uuid4()
JWT = claims.device_user_jwt(
    SIGNING,
    account=ACCOUNT.public,
    device=DEVICE,
    user_public=USER.public,
    issued_at=1_700_000_000,
    expires_at=1_800_000_000,
    tags=["credential:7"],
)
CONNECT = f"broker.{ACCOUNT.public}.connect"
DISCONNECT = f"broker.{ACCOUNT.public}.disconnect"


def body(**client: Any) -> bytes:
    told = {
        "start": "2026-01-01T12:00:00.5Z",
        "host": "192.0.2.7",
        "id": 14,
        "acc": ACCOUNT.public,
        "user": USER.public,
        "jwt": JWT,
        "issuer_key": SIGNING.public,
        "name_tag": "tenant_x",
        "kind": "Client",
    }
    event = {
        "server": {"name": "n", "id": "NSERVER"},
        "timestamp": "2026-01-01T12:05:00Z",
        "client": told | client,
        "reason": "Client Closed",
    }
    return json.dumps(event).encode()


def test_a_login_says_who_it_is_and_nothing_of_its_jwt() -> None:
    event = read_event(CONNECT, body())
    assert (event.server, event.client, event.address) == ("NSERVER", 14, "192.0.2.7")
    assert event.started_at == datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)
    assert (event.stopped_at, event.reason) == (None, "")
    user = event.user
    assert (user.account, user.name, user.public) == (ACCOUNT.public, str(DEVICE), USER.public)
    assert (user.issued_at, user.tags) == (1_700_000_000, ("credential:7",))
    assert "eyJ" not in repr(event)


def test_a_disconnection_has_its_time_and_reason() -> None:
    event = read_event(DISCONNECT, body(stop="2026-01-01T12:04:59Z"))
    assert event.stopped_at == datetime(2026, 1, 1, 12, 4, 59, tzinfo=UTC)
    assert event.reason == "Client Closed"
    assert read_event(DISCONNECT, body()).stopped_at == datetime(2026, 1, 1, 12, 5, tzinfo=UTC)


def test_a_password_login_is_named_by_the_callout() -> None:
    user = read_event(CONNECT, body(user=str(DEVICE), jwt="", tags=["credential:9"])).user
    assert (user.name, user.public, user.issued_at) == (str(DEVICE), "", None)
    assert user.tags == ("credential:9",)


@pytest.mark.parametrize(
    "claimed",
    [str(uuid4()), OTHER.public, "subscriber", ""],
    ids=["another device", "another's key", "the subscriber", "nobody"],
)
def test_who_has_a_jwt_is_nobody_else_whatever_its_client_claims(claimed: str) -> None:
    event = read_event(CONNECT, body(user=claimed))
    assert (event.user.name, event.user.public) == (str(DEVICE), USER.public)


@pytest.mark.parametrize(
    "jwt", ["", "eyJ.not.one", JWT[:-4] + "AAAA"], ids=["none", "no JWT", "forged"]
)
def test_a_jwt_that_is_not_good_names_nobody(jwt: str) -> None:
    assert read_event(CONNECT, body(jwt=jwt)).user.name == ""


def test_a_jwt_of_another_account_names_nobody() -> None:
    other = claims.account_user_jwt(
        nkeys.generate("account"), name=str(DEVICE), user_public=OTHER.public, issued_at=1
    )
    assert read_event(CONNECT, body(jwt=other)).user.name == ""


@pytest.mark.parametrize(
    ("subject", "data", "reason"),
    [
        (CONNECT, b"{", "malformed_json"),
        (CONNECT, b'{"server": {}}', "wrong_type"),
        (CONNECT, body(id="x"), "wrong_type"),
        (CONNECT, body(acc=SIGNING.public), "foreign_identity"),
        ("broker.x.connect", body(), "bad_subject"),
        (f"broker.{ACCOUNT.public}.other", body(), "bad_subject"),
    ],
    ids=["cut short", "empty", "wrong type", "foreign", "no account", "no event"],
)
def test_what_cannot_be_an_event_is_malformed(subject: str, data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_event(subject, data)
    assert caught.value.reason == reason
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize("cut", [None, -40, -300])
def test_what_is_kept_of_an_event_has_no_token_whole_or_cut_short(cut: int | None) -> None:
    kept = without_secrets(body()[:cut])
    assert b"eyJ" not in kept
    assert all(part.encode() not in kept for part in JWT.split("."))
    assert ACCOUNT.public.encode() in kept


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("hunter2", False), ('a\\"b', False), (USER.public, True), (f"tenant_{DEVICE}", True)],
    ids=["a word", "quoted", "a key", "a tenant"],
)
def test_what_is_kept_of_an_event_has_no_username_that_may_be_a_password(
    typed: str, kept: bool
) -> None:
    left = without_secrets(body(user=typed))
    assert (json.dumps(typed).encode() in left) == kept
    assert json.loads(left)["client"]["id"] == 14
