import time

import pytest
from django.utils import timezone

from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.broker.claims import tenant_account
from tenants.credentials.issue import issue_device_password, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential, revoke_device_credentials
from tenants.credentials.rotate import rotate_device
from tenants.credentials.use import record_password_uses
from tenants.errors import CredentialRefused
from tenants.models import Action, AuditEntry, Credential, Tenant, User
from tests.tenants.credentials.conftest import DAY, DEVICE, PASSWORD, jwt_of, revocations


def test_a_row_tells_of_each_jwt_what_the_jwt_itself_says(tenant_a: Tenant, key: str) -> None:
    row, said = jwt_of(tenant_a, key)
    assert said["sub"] == row.public_key == key
    assert said["iat"] == row.issued_at.timestamp()
    assert row.expires_at is not None
    assert said["exp"] == row.expires_at.timestamp()
    assert row.username == f"device_{DEVICE}"


def test_twice_in_a_second_is_one_credential_and_one_after_a_revocation_is_later(
    tenant_a: Tenant, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = int(time.time())
    monkeypatch.setattr(time, "time", lambda: second + 0.5)
    first, said = jwt_of(tenant_a, key)
    assert jwt_of(tenant_a, key) == (first, said)
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    voided = revocations(tenant_a)[key]
    assert said["iat"] <= voided
    assert jwt_of(tenant_a, key)[1]["iat"] == voided + 1


def test_rows_of_a_device_are_bounded_and_what_voids_stays(tenant_a: Tenant, key: str) -> None:
    voided, said = jwt_of(tenant_a, key)
    revoke_credential(voided, by=None, reason="lost")
    for _ in range(30):
        Credential.objects.exclude(pk=voided.pk).update(ends_at=timezone.now() + DAY)
        jwt_of(tenant_a, key)
    assert Credential.objects.filter(device_uuid=DEVICE).count() <= 21
    assert revocations(tenant_a) == {key: said["iat"]}


def test_passwords_that_nobody_uses_do_not_pile_up_and_the_one_in_use_stays(
    tenant_a: Tenant,
) -> None:
    used = issue_device_password(tenant_a.pk, DEVICE).credential
    record_password_uses([used])
    for _ in range(10):
        issue_device_password(tenant_a.pk, DEVICE)
    live = Credential.objects.live()
    assert live.count() == 5
    assert used in live
    ended = AuditEntry.objects.filter(action=Action.CREDENTIAL_ENDED)
    assert ended.count() == 6, "each that went is on record"


def test_a_suspended_tenant_gets_none_of_any_kind(tenant_a: Tenant, key: str) -> None:
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    with pytest.raises(CredentialRefused):
        jwt_of(tenant_a, key)
    with pytest.raises(CredentialRefused):
        issue_device_password(tenant_a.pk, DEVICE)
    for kind in Credential.Kind:
        with pytest.raises(CredentialRefused):
            issue_tenant_credential(tenant_a, kind=kind, by=None)
    assert tenant_account(tenant_a.pk).limits.connections == 0
    resume_tenant(tenant_a, by=None)
    assert jwt_of(tenant_a, key)


def test_each_step_is_audited_with_no_secret(tenant_a: Tenant, key: str, alice: User) -> None:
    row, _ = jwt_of(tenant_a, key)
    issued = issue_tenant_credential(tenant_a, kind=PASSWORD, by=alice)
    rotate_device(tenant_a.pk, DEVICE, by=alice, overlap=DAY)
    revoke_credential(row, by=alice, reason="lost")
    revoke_credential(row, by=alice, reason="again")
    entries = AuditEntry.objects.filter(action__startswith="credential").order_by("id")
    assert [(entry.action, entry.actor) for entry in entries] == [
        (Action.CREDENTIAL_ISSUED, f"device_{DEVICE}"),
        (Action.CREDENTIAL_ISSUED, "alice"),
        (Action.CREDENTIAL_ROTATED, "alice"),
        (Action.CREDENTIAL_REVOKED, "alice"),
    ]
    assert entries[3].detail["reason"] == "lost"
    said = str(list(AuditEntry.objects.values()))
    assert issued.secret not in said
    assert "eyJ" not in said
