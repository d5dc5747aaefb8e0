from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from natsbridge.identity import nkeys
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.credentials import revocations as ending
from tenants.credentials.revocations import (
    end_due_credentials,
    revoke_credential,
    revoke_credentials_of,
    revoke_device_credentials,
)
from tenants.credentials.rotate import make_room_for_revocations, rotate_device
from tenants.models import Action, AuditEntry, Credential, Tenant, User
from tenants.origin import Origin, acting
from tests.tenants.credentials.conftest import (
    DEVICE,
    NOTHING,
    an_hour_ago,
    fresh,
    jwt_of,
    revocations,
)


def test_a_jwt_whose_row_a_restored_backup_lacks_is_revoked_with_its_device(
    tenant_a: Tenant, key: str
) -> None:
    row, said = jwt_of(tenant_a, key)
    row.delete()
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    assert revocations(tenant_a)[key] >= said["iat"]
    entry = AuditEntry.objects.get(action=Action.CREDENTIAL_REVOKED)
    assert (entry.device_uuid, entry.detail["reason"]) == (DEVICE, "lost")


@pytest.mark.parametrize("ends", ["revoked", "rotated"])
def test_a_jwt_that_a_restored_backup_lacks_ends_although_an_older_one_has_a_row(
    tenant_a: Tenant, key: str, ends: str
) -> None:
    older = an_hour_ago(jwt_of(tenant_a, key)[0])
    newer, said = jwt_of(tenant_a, key)
    newer.delete()
    if ends == "revoked":
        revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    else:
        rotate_device(tenant_a.pk, DEVICE, by=None, overlap=NOTHING, nkey_public=key)
    assert revocations(tenant_a)[key] >= said["iat"] > older.issued_at.timestamp()
    # What is issued from now on is not revoked, even within the same second.
    assert jwt_of(tenant_a, key)[1]["iat"] > revocations(tenant_a)[key]


def test_many_devices_that_end_together_end_the_jwts_that_a_restored_backup_lacks(
    tenant_a: Tenant, django_assert_max_num_queries: Any
) -> None:
    keys: dict[UUID, str | None] = {uuid4(): nkeys.generate("user").public for _ in range(20)}
    said = {}
    for device, key in keys.items():
        an_hour_ago(jwt_of(tenant_a, str(key), device)[0])
        newer, said[key] = jwt_of(tenant_a, str(key), device)
        newer.delete()
    without = {uuid4(): None}
    with django_assert_max_num_queries(15):
        revoke_credentials_of(tenant_a.pk, keys | without, by=None, reason="sold")
    assert all(revocations(tenant_a)[key] >= said[key]["iat"] for key in said if key)


def test_only_what_could_still_be_valid_is_in_the_revocations(
    tenant_a: Tenant, key: str, alice: User
) -> None:
    row, said = jwt_of(tenant_a, key)
    assert revocations(tenant_a) == {}
    revoke_credential(row, by=alice, reason="lost")
    assert revocations(tenant_a) == {key: said["iat"]}
    assert (fresh(row).ended_by, row.end_reason) == (alice, "lost")
    Credential.objects.update(expires_at=timezone.now())
    assert revocations(tenant_a) == {}


def test_so_many_revocations_that_the_claims_would_not_pass_are_one_of_all_users(
    tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.broker.claims.MOST_REVOCATIONS", 1)
    for device in (uuid4(), uuid4()):
        key = nkeys.generate("user").public
        revoke_device_credentials(tenant_a.pk, device, key, by=None, reason="lost")
    newest = Credential.objects.latest("issued_at").issued_at
    assert not make_room_for_revocations(tenant_a), "the key is too young for that"
    assert revocations(tenant_a) == {"*": int(newest.timestamp())}


def test_claims_of_a_suspended_tenant_name_no_revocations(tenant_a: Tenant, key: str) -> None:
    revoke_credential(jwt_of(tenant_a, key)[0], by=None, reason="lost")
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert revocations(tenant_a) == {}
    resume_tenant(tenant_a, by=None)
    assert key in revocations(tenant_a)


def test_a_revoked_jwt_takes_the_older_ones_of_its_key_with_it_and_no_other(
    tenant_a: Tenant, key: str
) -> None:
    older = an_hour_ago(jwt_of(tenant_a, key)[0])
    newest = jwt_of(tenant_a, key)[0]
    others = jwt_of(tenant_a, nkeys.generate("user").public, uuid4())[0]
    revoke_credential(newest, by=None, reason="lost")
    assert [fresh(row).end_reason for row in (older, newest, others)] == ["lost", "lost", ""]


def test_a_revoked_device_has_a_row_in_the_audit_for_each_jwt_and_one_for_those_without_a_row(
    tenant_a: Tenant, key: str
) -> None:
    jwt_of(tenant_a, key)
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    assert AuditEntry.objects.filter(action=Action.CREDENTIAL_REVOKED).count() == 2


def test_who_did_it_at_the_command_line_stands_in_the_row(tenant_a: Tenant, key: str) -> None:
    row = jwt_of(tenant_a, key)[0]
    with acting(Origin(via="command line", name="root")):
        revoke_credential(row, by=None, reason="lost")
        suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert fresh(row).ended_by_name == "root"
    assert Tenant.objects.get().suspended_by_name == "root"


def test_devices_whose_overlap_ends_together_end_some_at_a_time(
    tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ENDED_AT_ONCE", 2)
    for _ in range(3):
        jwt_of(tenant_a, nkeys.generate("user").public, uuid4())
    Credential.objects.update(ends_at=timezone.now())
    assert [end_due_credentials() for _ in range(3)] == [2, 1, 0]
