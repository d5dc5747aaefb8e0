import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from natsbridge.identity import nkeys
from natsbridge.identity.jwt import decode_jwt
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.claims import tenant_account
from tenants.credentials import revocations as ending
from tenants.credentials.issue import (
    issue_device_jwt,
    issue_device_password,
    issue_tenant_credential,
)
from tenants.credentials.revocations import (
    end_due_credentials,
    revoke_credential,
    revoke_device_credentials,
)
from tenants.credentials.rotate import (
    devices_not_renewing,
    make_room_for_revocations,
    rotate_all,
    rotate_device,
    rotate_keys,
    rotate_tenant,
)
from tenants.credentials.use import JwtUse, record_jwt_uses, record_password_uses
from tenants.errors import CredentialRefused, RotationRefused
from tenants.models import Action, AuditEntry, BrokerKey, Credential, Tenant, User
from tenants.origin import Origin, acting

JWT, PASSWORD = Credential.Kind.JWT, Credential.Kind.PASSWORD
NOTHING, DAY = timedelta(0), timedelta(days=1)


@pytest.fixture(autouse=True)
def _platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def key() -> str:
    return nkeys.generate("user").public


DEVICE = uuid4()


def jwt_of(tenant: Tenant, key: str, device: UUID = DEVICE) -> tuple[Credential, dict[str, Any]]:
    issued = issue_device_jwt(tenant.pk, device, key)
    return issued.credential, decode_jwt(issued.secret)


def revocations(tenant: Tenant) -> dict[str, int]:
    return dict(tenant_account(tenant.pk).revocations)


def use(row: Credential) -> None:
    issued_at = int(row.issued_at.timestamp())
    record_jwt_uses([JwtUse(row.public_key, issued_at, timezone.now())])


def fresh(row: Credential) -> Credential:
    row.refresh_from_db()
    return row


def an_hour_ago(row: Credential) -> Credential:
    row.issued_at -= timedelta(hours=1)
    row.save()
    return row


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


def test_a_device_of_an_earlier_release_without_rows_is_voided_by_its_key(
    tenant_a: Tenant, key: str
) -> None:
    before = int(time.time())
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    assert before <= revocations(tenant_a)[key] <= time.time()


def test_a_jwt_whose_row_a_restored_backup_lacks_is_revoked_with_its_device(
    tenant_a: Tenant, key: str
) -> None:
    row, said = jwt_of(tenant_a, key)
    row.delete()
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    assert revocations(tenant_a)[key] >= said["iat"]
    entry = AuditEntry.objects.get(action=Action.CREDENTIAL_REVOKED)
    assert (entry.device_uuid, entry.detail["reason"]) == (DEVICE, "lost")


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


def test_a_revoked_device_has_one_row_in_the_audit_for_each_jwt(tenant_a: Tenant, key: str) -> None:
    jwt_of(tenant_a, key)
    revoke_device_credentials(tenant_a.pk, DEVICE, key, by=None, reason="lost")
    assert AuditEntry.objects.filter(action=Action.CREDENTIAL_REVOKED).count() == 1


def test_who_did_it_at_the_command_line_stands_in_the_row(tenant_a: Tenant, key: str) -> None:
    row = jwt_of(tenant_a, key)[0]
    with acting(Origin(via="command line", name="root")):
        revoke_credential(row, by=None, reason="lost")
        suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert fresh(row).ended_by_name == "root"
    assert Tenant.objects.get().suspended_by_name == "root"


def test_many_are_ended_and_used_in_few_queries(
    tenant_a: Tenant, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    devices = [uuid4() for _ in range(50)]
    for device in devices:
        issue_device_password(tenant_a.pk, device)
    newer = [issue_device_password(tenant_a.pk, each).credential for each in devices]
    with django_assert_max_num_queries(15):
        record_password_uses(newer)
    assert Credential.objects.filter(end_reason="a newer one is in use").count() == 50
    with django_assert_max_num_queries(25):
        rotate_all(tenant_a, by=None, overlap=NOTHING, kind=JWT, replaces=None)
    assert Credential.objects.live().count() == 1


@pytest.mark.django_db(transaction=True)
def test_logins_of_the_same_devices_at_once_do_not_wait_for_each_other_in_a_circle(
    tenant_a: Tenant,
) -> None:
    devices = [uuid4(), uuid4()]
    for _ in range(10):
        (a, a2), (b, b2) = (
            [issue_device_password(tenant_a.pk, each).credential for _ in range(2)]
            for each in devices
        )

        def use_them(rows: list[Credential]) -> None:
            try:
                record_password_uses(rows)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(use_them, [[a, b2], [b, a2]]))
    assert {row.device_uuid for row in Credential.objects.live()} == set(devices)


def test_rows_of_a_device_are_bounded_and_what_voids_stays(tenant_a: Tenant, key: str) -> None:
    voided, said = jwt_of(tenant_a, key)
    revoke_credential(voided, by=None, reason="lost")
    for _ in range(30):
        Credential.objects.exclude(pk=voided.pk).update(ends_at=timezone.now() + DAY)
        jwt_of(tenant_a, key)
    assert Credential.objects.filter(device_uuid=DEVICE).count() <= 21
    assert revocations(tenant_a) == {key: said["iat"]}


def test_a_password_is_hashed_and_ends_those_before_it_when_it_is_used(tenant_a: Tenant) -> None:
    old = issue_device_password(tenant_a.pk, DEVICE)
    new = issue_device_password(tenant_a.pk, DEVICE)
    others = issue_tenant_credential(tenant_a, kind=PASSWORD, by=None)
    assert len(new.secret) == 32
    assert new.secret.isalnum()
    assert new.secret not in str(Credential.objects.values())
    assert Credential.objects.live().count() == 3
    record_password_uses([new.credential])
    assert fresh(old.credential).end_reason == "a newer one is in use"
    assert fresh(new.credential).first_used_at is not None
    assert fresh(others.credential).ended_at is None


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


def test_a_password_that_was_ended_during_its_login_wakes_the_provisioner_again(
    tenant_a: Tenant,
) -> None:
    issued = issue_device_password(tenant_a.pk, DEVICE)
    revoke_credential(issued.credential, by=None, reason="lost")
    wanted_at = tenant_a.broker_account.wanted_at
    record_password_uses([issued.credential])
    tenant_a.broker_account.refresh_from_db()
    assert tenant_a.broker_account.wanted_at > wanted_at


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


def rotate(
    tenant: Tenant, replaces: Credential | None, *, overlap: timedelta = DAY, kind: str = JWT
) -> Credential:
    issued = rotate_tenant(
        tenant, by=None, overlap=overlap, kind=Credential.Kind(kind), replaces=replaces
    )
    return issued.credential


def test_an_ordinary_renewal_ends_nothing(tenant_a: Tenant, key: str) -> None:
    old = an_hour_ago(jwt_of(tenant_a, key)[0])
    use(old)
    use(jwt_of(tenant_a, key)[0])
    assert fresh(old).ended_at is None


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


def test_devices_whose_overlap_ends_together_end_some_at_a_time(
    tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ENDED_AT_ONCE", 2)
    for _ in range(3):
        jwt_of(tenant_a, nkeys.generate("user").public, uuid4())
    Credential.objects.update(ends_at=timezone.now())
    assert [end_due_credentials() for _ in range(3)] == [2, 1, 0]


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


def test_a_use_that_came_late_or_of_no_known_jwt_does_no_harm(tenant_a: Tenant, key: str) -> None:
    row, _ = jwt_of(tenant_a, key)
    use(row)
    last = fresh(row).last_used_at
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    issued_at = int(row.issued_at.timestamp())
    record_jwt_uses(
        [JwtUse(key, issued_at, long_ago), JwtUse(key, 5, long_ago), JwtUse("U", 5, last)]
    )
    assert fresh(row).last_used_at == last
