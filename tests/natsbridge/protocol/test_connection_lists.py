"""Lists of connections: who is connected, and what each connection has sent."""

from typing import Any
from uuid import uuid4

import pytest

from natsbridge.errors import MalformedMessage
from natsbridge.identity import claims, nkeys
from natsbridge.protocol.connection_lists import read_listing, read_traffic

ACCOUNT, SIGNING, USER = map(nkeys.generate, ("account", "account", "user"))
DEVICE = uuid4()
JWT = claims.device_user_jwt(
    SIGNING,
    account=ACCOUNT.public,
    device=DEVICE,
    user_public=USER.public,
    issued_at=1_700_000_000,
    expires_at=1_800_000_000,
)
BEGAN = "2026-01-01T12:00:00Z"


def answer(*connections: dict[str, Any]) -> dict[str, Any]:
    listed = {"server_id": "NSERVER", "now": "2026-01-01T12:00:10Z", "total": len(connections)}
    return {"data": listed | {"connections": list(connections)}}


def test_a_listing_counts_clients_that_have_not_logged_in_but_names_no_user_of_theirs() -> None:
    known = {"cid": 1, "start": BEGAN, "account": ACCOUNT.public, "jwt": JWT}
    user = {"authorized_user": USER.public, "ip": "192.0.2.7"}
    listing = read_listing(answer(known | user, {"cid": 2, "start": BEGAN}))
    assert listing.clients == {1, 2}
    assert [each.user.name for each in listing.connections] == [str(DEVICE)]
    assert "eyJ" not in repr(listing)


def test_the_age_of_a_connection_that_has_ended_ends_with_it() -> None:
    sent = {"start": BEGAN, "in_msgs": 5, "in_bytes": 60}
    open_one, ended = {"cid": 1}, {"cid": 2, "stop": "2026-01-01T12:00:04Z"}
    traffic = read_traffic(answer(sent | open_one, sent | ended))
    assert [(each.connection, each.age) for each in traffic] == [
        (("NSERVER", 1), 10.0),
        (("NSERVER", 2), 4.0),
    ]
    assert {(each.messages, each.bytes) for each in traffic} == {(5, 60)}


@pytest.mark.parametrize("read", [read_listing, read_traffic])
def test_an_answer_of_another_form_is_malformed(read: Any) -> None:
    with pytest.raises(MalformedMessage):
        read({"data": {"server_id": 3}})
