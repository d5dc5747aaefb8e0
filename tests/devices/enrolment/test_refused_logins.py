"""Logins that the server itself refused: on whose record, and in how little room."""

import base64
import json
import time
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from devices.enrolment import refused_logins
from devices.enrolment.credentials import delete_devices, revoke_device
from devices.presence import events
from natsbridge.identity import claims, nkeys
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.subjects import UNAUTHENTICATED
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.logins import callout_authority, device_jwt
from tenants.callout.refusals import RefusedLogins
from tenants.credentials.issue import issue_device_password
from tenants.models import Action, ActorKind, AuditEntry, Credential, Group, Tenant
from tests.support.people import Enrolled, enrol

pytestmark = pytest.mark.django_db
FULL = "Maximum Account Connections Exceeded"


@pytest.fixture(autouse=True)
def book(monkeypatch: pytest.MonkeyPatch) -> RefusedLogins:
    ensure_platform_keys()
    fresh = RefusedLogins()
    monkeypatch.setattr(refused_logins, "book", fresh)
    return fresh


@pytest.fixture
def anna(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def refused(jwt: str, *args: str, **client: Any) -> None:
    assert events.record_events([event(jwt, *args, **client)]) == []


def event(
    jwt: str, reason: str = "Authentication Failure", account: str = UNAUTHENTICATED, **client: Any
) -> RawMessage:
    """As the server says it: nobody's, with the JWT that was offered."""
    now = timezone.now().isoformat()
    told = {"start": now, "stop": now, "id": 7, "acc": account, "host": "192.0.2.7", "jwt": jwt}
    body = {"server": {"id": "N"}, "timestamp": now, "client": told | client, "reason": reason}
    data = json.dumps(body).encode()
    return RawMessage(f"broker.{account}.disconnect", data, {}, timezone.now())


def entry() -> AuditEntry:
    return AuditEntry.objects.get(action=Action.BROKER_REFUSED)


def self_made(**changes: Any) -> str:
    values: dict[str, Any] = {
        "account": nkeys.generate("account").public,
        "device": uuid4(),
        "user_public": nkeys.generate("user").public,
        "issued_at": int(time.time()),
        "expires_at": None,
    }
    return claims.device_user_jwt(nkeys.generate("account"), **(values | changes))


def test_a_revoked_devices_login_is_on_record_for_its_tenant(anna: Enrolled) -> None:
    jwt, device = anna.jwt, anna.device
    revoke_device(device, by=None, reason="stolen")
    refused(jwt)
    told = entry()
    assert (told.tenant_uuid, told.device_uuid) == (device.tenant_id, device.pk)
    assert (told.actor_kind, told.actor) == (ActorKind.UNKNOWN, f"device_{device.pk}")
    assert (told.target, told.address) == ("device anna-laptop", "192.0.2.7")
    assert told.detail == {"reason": "the JWT has been revoked or has ended"}
    assert not AuditEntry.objects.filter(action=Action.BROKER_DISCONNECTED).exists()


def test_so_is_a_deleted_devices(anna: Enrolled) -> None:
    jwt, device = anna.jwt, anna.device.pk
    delete_devices([anna.device], by=None)
    refused(jwt)
    assert (entry().device_uuid, entry().target) == (device, f"device {device}")


def test_an_expired_jwt_is_called_so_though_there_is_no_row_of_it(anna: Enrolled) -> None:
    device, now = anna.device, int(time.time())
    jwt = device_jwt(
        device.tenant_id, device.pk, anna.key.public, issued_at=now - 9, expires_at=now - 1
    )
    Credential.objects.all().delete()
    refused(jwt)
    assert (entry().device_uuid, entry().detail) == (device.pk, {"reason": "the JWT has expired"})


def test_a_jwt_that_we_did_not_sign_is_called_so(anna: Enrolled) -> None:
    assert anna.jwt
    refused(self_made(device=anna.device.pk, user_public=anna.key.public))
    assert entry().device_uuid == anna.device.pk
    assert entry().detail == {"reason": "the JWT is not signed by a key of the tenant"}


def test_a_full_or_suspended_account_refuses_whom_the_server_knows(
    anna: Enrolled, tenant_a: Tenant
) -> None:
    account = tenant_a.broker_account.public_key
    refused(anna.jwt, FULL, account)
    told = entry()
    assert (told.tenant_uuid, told.device_uuid) == (tenant_a.pk, anna.device.pk)
    assert (told.actor_kind, told.detail) == (ActorKind.DEVICE, {"reason": FULL})


def test_a_right_password_is_refused_by_a_full_account_too(
    anna: Enrolled, tenant_a: Tenant
) -> None:
    issued = issue_device_password(tenant_a.pk, anna.device.pk)
    callout = callout_authority().account.public
    account = tenant_a.broker_account.public_key
    refused("", FULL, account, user=issued.username, issuer_key=callout)
    assert (entry().device_uuid, entry().actor_kind) == (anna.device.pk, ActorKind.DEVICE)


def test_a_connection_that_a_suspension_ends_was_no_refusal(
    anna: Enrolled, tenant_a: Tenant
) -> None:
    issuer = tenant_a.broker_keys.get(purpose="device").public_key
    refused(anna.jwt, FULL, tenant_a.broker_account.public_key, issuer_key=issuer)
    assert not AuditEntry.objects.filter(action=Action.BROKER_REFUSED).exists()
    assert AuditEntry.objects.get(action=Action.BROKER_DISCONNECTED).device_uuid == anna.device.pk


def test_a_thousand_of_an_outsiders_are_a_handful_of_rows_and_hide_no_device(
    anna: Enrolled, book: RefusedLogins
) -> None:
    jwt = self_made()
    flood = [event(jwt, host=f"10.0.{number % 40}.1") for number in range(990)]
    assert events.record_events(flood[:500]) == events.record_events(flood[500:]) == []
    for junk in ("", "eyJhbGciOiJ.x.y", "\0"):
        refused(junk, user="hunter2")
    for strange in ({"iat": "x", "exp": -1}, {"name": "\0" * 300}, {"sub": ["U"]}):
        refused(strangely(strange))
    refused("", "Client Closed")
    refused(anna.jwt)
    book.flush(at_once=True)
    rows = AuditEntry.objects.filter(action=Action.BROKER_REFUSED)
    assert sum(row.count for row in rows) == book.total == 990 + 3 + 3 + 1
    assert rows.count() < 60
    assert rows.get(device_uuid=anna.device.pk).count == 1
    written = str(list(rows.values()))
    assert "hunter2" not in written
    assert "eyJ" not in written


def strangely(said: dict[str, Any]) -> str:
    """A JWT whose signature is good and whose claims are not what they should be."""
    key = nkeys.generate("account")
    body = {"iss": key.public, "sub": nkeys.generate("user").public, "nats": []} | said
    parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, body)
    content = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return f"{content}.{_encoded(nkeys.sign(key.seed, content.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
