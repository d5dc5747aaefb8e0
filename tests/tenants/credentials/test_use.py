from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from tenants.credentials.issue import issue_device_password, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.credentials.rotate import rotate_all
from tenants.credentials.use import JwtUse, record_jwt_uses, record_password_uses
from tenants.models import Credential, Tenant
from tests.tenants.credentials.conftest import (
    DEVICE,
    JWT,
    NOTHING,
    PASSWORD,
    an_hour_ago,
    fresh,
    jwt_of,
    use,
)


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


def test_a_password_that_was_ended_during_its_login_wakes_the_provisioner_again(
    tenant_a: Tenant,
) -> None:
    issued = issue_device_password(tenant_a.pk, DEVICE)
    revoke_credential(issued.credential, by=None, reason="lost")
    wanted_at = tenant_a.broker_account.wanted_at
    record_password_uses([issued.credential])
    tenant_a.broker_account.refresh_from_db()
    assert tenant_a.broker_account.wanted_at > wanted_at


def test_an_ordinary_renewal_ends_nothing(tenant_a: Tenant, key: str) -> None:
    old = an_hour_ago(jwt_of(tenant_a, key)[0])
    use(old)
    use(jwt_of(tenant_a, key)[0])
    assert fresh(old).ended_at is None


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
