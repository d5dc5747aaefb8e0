from dataclasses import replace
from pathlib import Path

import pytest
from django.db import transaction

from tenants.actions.keys import find_enrollment_key, revoke_api_token, revoke_enrollment_key
from tenants.models import ApiToken, EnrollmentKey, Membership, Role, Tenant, User
from wegweiser.quickstart import bootstrap as module
from wegweiser.quickstart.bootstrap import bootstrap
from wegweiser.quickstart.state import Accounts

pytestmark = pytest.mark.django_db


def test_the_first_run_makes_an_administrator_with_a_tenant_and_keys(tmp_path: Path) -> None:
    accounts = bootstrap(tmp_path)
    admin = User.objects.get()
    assert admin.username == accounts.admin_username
    assert admin.is_superuser
    assert admin.check_password(accounts.admin_password)
    membership = Membership.objects.get(user=admin)
    assert (str(membership.tenant_id), membership.role) == (accounts.tenant_uuid, Role.ADMIN)
    group = membership.tenant.groups.get()
    assert str(group.uuid) == accounts.group_uuid
    assert find_enrollment_key(accounts.enrollment_key, group.uuid)
    assert Accounts.of_home(tmp_path) == accounts


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = bootstrap(tmp_path)
    assert bootstrap(tmp_path) == first
    for model in (User, Tenant, ApiToken, EnrollmentKey, Membership):
        assert model.objects.count() == 1


def test_a_password_that_the_person_has_changed_is_left_alone_and_not_told(
    tmp_path: Path,
) -> None:
    bootstrap(tmp_path)
    admin = User.objects.get()
    admin.set_password("chosen by the person")
    admin.save()
    assert bootstrap(tmp_path).admin_password == ""
    assert User.objects.get().check_password("chosen by the person")


def test_revoked_keys_are_replaced(tmp_path: Path) -> None:
    first = bootstrap(tmp_path)
    revoke_enrollment_key(EnrollmentKey.objects.get())
    revoke_api_token(ApiToken.objects.get())
    second = bootstrap(tmp_path)
    assert second == replace(
        first, api_token=second.api_token, enrollment_key=second.enrollment_key
    )
    assert find_enrollment_key(second.enrollment_key, Tenant.objects.get().groups.get().uuid)
    assert second.api_token != first.api_token


def test_a_tenant_with_another_name_is_found_again(tmp_path: Path) -> None:
    first = bootstrap(tmp_path)
    Tenant.objects.update(name="Renamed")
    assert bootstrap(tmp_path) == first


def test_a_tenant_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    first = bootstrap(tmp_path)
    Tenant.objects.all().delete()
    second = bootstrap(tmp_path)
    assert Tenant.objects.get().name == "Demo"
    assert second.tenant_uuid != first.tenant_uuid
    assert second.admin_password == first.admin_password


def test_no_password_is_set_and_then_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the first run is cut short, either nothing was stored or the home knows it."""

    class Cut(BaseException):
        pass

    def cut(*_: object) -> str:
        raise Cut

    monkeypatch.setattr(module, "_enrollment_key", cut)
    with pytest.raises(Cut), transaction.atomic():
        bootstrap(tmp_path)
    assert not User.objects.exists()
    monkeypatch.undo()
    accounts = bootstrap(tmp_path)
    assert User.objects.get().check_password(accounts.admin_password)
