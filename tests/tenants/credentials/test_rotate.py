from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from natsbridge.identity import nkeys
from tenants.broker.claims import tenant_account
from tenants.credentials.issue import issue_device_password, issue_tenant_credential
from tenants.credentials.revocations import end_due_credentials, revoke_credential
from tenants.credentials.rotate import (
    devices_not_renewing,
    make_room_for_revocations,
    rotate_all,
    rotate_device,
    rotate_keys,
)
from tenants.errors import RotationRefused
from tenants.models import BrokerKey, Credential, Tenant
from tests.tenants.credentials.conftest import (
    DAY,
    DEVICE,
    JWT,
    NOTHING,
    an_hour_ago,
    fresh,
    jwt_of,
    revocations,
    rotate,
    use,
)


def test_room_in_the_claims_is_made_by_a_new_key_which_spares_the_tenants_own(
    tenant_a: Tenant, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.broker.claims.MOST_REVOCATIONS", 1)
    long_ago = timezone.now() - timedelta(days=2)
    BrokerKey.objects.update(created_at=long_ago)
    held = an_hour_ago(jwt_of(tenant_a, key)[0])
    own = issue_tenant_credential(tenant_a, kind=JWT, by=None).credential
    for device in (uuid4(), uuid4()):
        lost = jwt_of(tenant_a, nkeys.generate("user").public, device)[0]
        revoke_credential(an_hour_ago(lost), by=None, reason="lost")
    before = tenant_account(tenant_a.pk)
    assert make_room_for_revocations(tenant_a)
    after = tenant_account(tenant_a.pk)
    assert (after.device_key == before.device_key, after.tenant_key == before.tenant_key) == (
        False,
        True,
    )
    assert "*" in before.revocations
    assert after.revocations == {}
    assert fresh(held).ended_at
    assert fresh(own).ended_at is None


@pytest.mark.parametrize("kind", Credential.Kind)
def test_a_rotation_ends_the_old_one_after_its_overlap(tenant_a: Tenant, kind: str) -> None:
    old = issue_tenant_credential(tenant_a, kind=kind, by=None).credential
    before = timezone.now()
    rotate(tenant_a, old, kind=kind)
    assert before + DAY <= fresh(old).ends_at <= timezone.now() + DAY
    assert old in Credential.objects.live()
    assert end_due_credentials() == 0
    Credential.objects.filter(pk=old.pk).update(ends_at=timezone.now())
    assert end_due_credentials() == 1
    assert fresh(old).end_reason == "the overlap of its rotation is over"


def test_a_rotation_ends_the_old_one_early_once_the_new_one_is_in_use(tenant_a: Tenant) -> None:
    old = issue_tenant_credential(tenant_a, kind=JWT, by=None).credential
    new = rotate(tenant_a, old)
    use(old)
    assert fresh(old).ended_at is None
    use(new)
    assert fresh(old).ended_at is not None
    assert revocations(tenant_a) == {old.public_key: int(old.issued_at.timestamp())}


def test_while_an_overlap_is_open_only_one_of_nothing_rotates_again(tenant_a: Tenant) -> None:
    first = rotate(tenant_a, None)
    second = rotate(tenant_a, first)
    with pytest.raises(RotationRefused, match="running until"):
        rotate(tenant_a, second)
    third = rotate(tenant_a, second, overlap=NOTHING)
    assert list(Credential.objects.live()) == [third]


def test_an_overlap_has_bounds(tenant_a: Tenant) -> None:
    for wrong in (timedelta(days=31), timedelta(seconds=-1)):
        with pytest.raises(RotationRefused, match="from 0 to 30 days"):
            rotate(tenant_a, None, overlap=wrong)


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_wins_and_the_other_is_told(tenant_a: Tenant) -> None:
    seen = rotate(tenant_a, None)

    def once(_: int) -> str:
        try:
            rotate(tenant_a, seen, overlap=NOTHING)
        except RotationRefused as refusal:
            return str(refusal)
        finally:
            connection.close()
        return "won"

    with ThreadPoolExecutor(2) as threads:
        told = sorted(threads.map(once, range(2)), key=len)
    assert told[0] == "won"
    assert "Somebody else has rotated" in told[1]
    assert Credential.objects.live().count() == 1


def test_a_devices_rotation_marks_what_it_holds_recorded_or_not(tenant_a: Tenant, key: str) -> None:
    rotate_device(tenant_a.pk, DEVICE, by=None, overlap=DAY, nkey_public=key)
    (old,) = Credential.objects.all()
    with pytest.raises(RotationRefused):
        rotate_device(tenant_a.pk, DEVICE, by=None, overlap=DAY, nkey_public=key)
    new, said = jwt_of(tenant_a, key)
    assert said["iat"] > old.issued_at.timestamp()
    use(new)
    assert revocations(tenant_a) == {key: said["iat"] - 1}


def test_a_device_that_cannot_be_told_is_not_locked_out_by_a_rotation_of_all(
    tenant_a: Tenant, key: str
) -> None:
    by_password = uuid4()
    password = issue_device_password(tenant_a.pk, by_password).credential
    jwt = jwt_of(tenant_a, key)[0]
    assert set(devices_not_renewing(tenant_a)) == {by_password, DEVICE}
    rotate_all(tenant_a, by=None, overlap=DAY, kind=JWT, replaces=None)
    assert fresh(password).ends_at is None
    assert fresh(jwt).ends_at == jwt.expires_at
    use(jwt_of(tenant_a, key)[0])
    assert fresh(jwt).ended_at
    with pytest.raises(RotationRefused, match="locked out"):
        rotate_device(tenant_a.pk, by_password, by=None, overlap=DAY)
    rotate_device(tenant_a.pk, by_password, by=None, overlap=NOTHING)
    assert fresh(password).ended_at


def test_who_rotates_all_what_somebody_else_has_rotated_is_told(tenant_a: Tenant) -> None:
    seen = rotate(tenant_a, None)
    newer = rotate(tenant_a, seen, overlap=NOTHING)
    for old, words in ((seen, "Somebody else"), (None, "has a credential already")):
        with pytest.raises(RotationRefused, match=words):
            rotate_all(tenant_a, by=None, overlap=NOTHING, kind=JWT, replaces=old)
    rotate_all(tenant_a, by=None, overlap=NOTHING, kind=JWT, replaces=newer)


def test_all_of_a_tenants_are_rotated_together_and_no_other_tenants(
    tenant_a: Tenant, tenant_b: Tenant, key: str
) -> None:
    mine, theirs = jwt_of(tenant_a, key)[0], jwt_of(tenant_b, "U" + key[1:], uuid4())[0]
    own = issue_tenant_credential(tenant_a, kind=JWT, by=None).credential
    issued = rotate_all(tenant_a, by=None, overlap=DAY, kind=JWT, replaces=own)
    assert fresh(mine).ends_at
    assert fresh(own).ends_at
    assert fresh(theirs).ends_at is None
    assert issued.credential.ends_at is None


def test_new_signing_keys_stand_beside_the_old_ones_until_these_retire(
    tenant_a: Tenant, key: str
) -> None:
    held = jwt_of(tenant_a, key)[0]
    before = tenant_account(tenant_a.pk)
    rotate_keys(tenant_a, by=None, overlap=DAY)
    during = tenant_account(tenant_a.pk)
    assert during.device_key != before.device_key
    assert during.retiring_device_keys == (before.device_key,)
    assert during.retiring_tenant_keys == (before.tenant_key,)
    assert fresh(held).ends_at
    assert jwt_of(tenant_a, key)[1]["iss"] == during.device_key
    with pytest.raises(RotationRefused):
        rotate_keys(tenant_a, by=None, overlap=DAY)
    # What follows the tenant's own credential is not a second rotation.
    own = issue_tenant_credential(tenant_a, kind=JWT, by=None).credential
    Credential.objects.filter(pk=own.pk).update(ends_at=timezone.now() + DAY)
    assert rotate(tenant_a, own)
    BrokerKey.objects.exclude(retires_at=None).update(retires_at=timezone.now())
    end_due_credentials()
    after = tenant_account(tenant_a.pk)
    assert (after.device_key, after.retiring_device_keys) == (during.device_key, ())
    assert not BrokerKey.objects.filter(public_key=before.device_key).exists()
