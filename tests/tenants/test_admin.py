"""The admin's pages of tenants, people and keys."""

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from devices.models import Device
from tenants.actions.keys import (
    create_api_token,
    create_enrollment_key,
    find_enrollment_key,
    revoke_enrollment_key,
)
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group, create_organisation, create_tenant, delete_place
from tenants.broker.accounts import record_provisioned, record_provisioning_failed
from tenants.errors import StillInUse
from tenants.models import (
    ApiToken,
    BrokerKey,
    EnrollmentKey,
    Group,
    Membership,
    Organisation,
    Role,
    Tenant,
    User,
    hash_token,
)
from tests.support.people import enrol, shown

LISTS = ["tenant", "organisation", "group", "enrollmentkey", "user", "apitoken"]
SUPERUSER_ONLY = {"is_superuser": "on", "is_staff": "on"}


@pytest.fixture
def staff(client: Client, db: None) -> User:
    user = User.objects.create_superuser("sam")
    client.force_login(user)
    return user


def list_of(model: str) -> str:
    return reverse(f"admin:tenants_{model}_changelist")


def add(model: str) -> str:
    return reverse(f"admin:tenants_{model}_add")


def page_of(model: str, row: object, view: str = "change") -> str:
    return reverse(f"admin:tenants_{model}_{view}", args=[getattr(row, "pk", row)])


def inline(prefix: str, *rows: dict[str, object], initial: int = 0) -> dict[str, object]:
    form: dict[str, object] = {
        f"{prefix}-TOTAL_FORMS": len(rows),
        f"{prefix}-INITIAL_FORMS": initial,
    }
    for number, row in enumerate(rows):
        form |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return form


def log_in_with(client: Client, *permissions: str) -> User:
    user = User.objects.create_user("stella", is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    client.force_login(user)
    return user


def queries_of(client: Client, address: str) -> int:
    # The first page of a session notes where it is used.
    client.get(address)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return len(queries)


@pytest.mark.parametrize("model", LISTS)
def test_the_lists_are_for_staff_with_the_permission(client: Client, db: None, model: str) -> None:
    assert client.get(list_of(model)).headers["Location"].startswith("/admin/login/")
    log_in_with(client)
    assert client.get(list_of(model)).status_code == 403
    client.logout()
    client.force_login(User.objects.create_user("mallory"))
    assert client.get(list_of(model)).status_code == 302


def test_the_secrets_of_the_broker_are_not_in_the_admin() -> None:
    assert not admin.site.is_registered(BrokerKey)


@pytest.mark.parametrize("model", LISTS)
def test_a_longer_list_takes_no_more_queries(client: Client, staff: User, model: str) -> None:
    def fill(number: int) -> None:
        tenant = create_tenant(name=f"tenant {number}")
        organisation = create_organisation(tenant, name="organisation")
        group = create_group(organisation, name="group")
        user = User.objects.create_user(f"user {number}")
        set_membership(user, tenant, Role.VIEWER)
        create_api_token(user, name="token", role=Role.VIEWER, expires_at=None)
        enrol(group, "computer")

    for number in range(2):
        fill(number)
    few = queries_of(client, list_of(model))
    for number in range(2, 7):
        fill(number)
    assert queries_of(client, list_of(model)) == few


def test_a_new_tenant_has_all_that_a_device_needs(client: Client, staff: User) -> None:
    form = {"name": "Acme", "organisation_name": "", "group_name": "Laptops"}
    response = client.post(add("tenant"), form)
    tenant = Tenant.objects.get()
    assert response.headers["Location"] == list_of("tenant")
    assert tenant.broker_account.public_key.startswith("A")
    assert tenant.broker_keys.count() == 3
    group = Group.objects.get()
    assert (group.name, group.organisation.name, group.tenant) == ("Laptops", "Acme", tenant)


def test_a_tenant_without_a_group_is_not_made(client: Client, staff: User) -> None:
    client.post(add("tenant"), {"name": "Acme", "group_name": ""})
    assert not Tenant.objects.exists()


def test_a_tenant_leads_to_its_devices(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    devices = reverse("admin:devices_device_changelist")
    link = f"{devices}?tenant__uuid__exact={device_a.tenant_id}"
    assert f'href="{link}">1</a>' in client.get(list_of("tenant")).content.decode()
    page = client.get(link).content
    assert device_a.name.encode() in page
    assert device_b.name.encode() not in page


def test_a_group_leads_to_its_devices(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    devices = reverse("admin:devices_device_changelist")
    link = f"{devices}?group={device_a.group_id}"
    assert f'href="{link}">1</a>' in client.get(page_of("tenant", device_a.tenant)).content.decode()
    page = client.get(link).content
    assert device_a.name.encode() in page
    assert device_b.name.encode() not in page


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (lambda tenant: None, "Waiting"),
        (lambda tenant: record_provisioned(tenant, timezone.now()), "Provisioned"),
        (lambda tenant: record_provisioning_failed(tenant, "no disk left"), "Failed"),
    ],
)
def test_a_tenants_page_tells_how_its_account_stands(
    client: Client, staff: User, tenant_a: Tenant, record: Callable[[Tenant], None], word: str
) -> None:
    record(tenant_a)
    page = client.get(page_of("tenant", tenant_a)).content.decode()
    assert word in page.split()
    assert ("no disk left" in page) == (word == "Failed")


def test_a_tenants_page_writes_its_organisations_and_members(
    client: Client, staff: User, group_a: Group, bob: User, charlie: User
) -> None:
    old = group_a.organisation
    membership = Membership.objects.get(user=bob)
    form = {
        "name": "Acme International",
        **inline(
            "organisations",
            {"uuid": old.pk, "tenant": group_a.tenant_id, "name": "Acme Limited"},
            {"uuid": "", "tenant": group_a.tenant_id, "name": "Acme France"},
            initial=1,
        ),
        **inline(
            "groups",
            {"uuid": group_a.pk, "tenant": group_a.tenant_id, "name": "Notebooks"},
            initial=1,
        ),
        **inline(
            "memberships",
            {"id": membership.pk, "tenant": group_a.tenant_id, "role": "admin"},
            {"id": "", "tenant": group_a.tenant_id, "user": charlie.pk, "role": "viewer"},
            initial=1,
        ),
    }
    response = client.post(page_of("tenant", group_a.tenant), form)
    assert response.status_code == 302, response.context["errors"]
    tenant = Tenant.objects.get(pk=group_a.tenant_id)
    assert tenant.name == "Acme International"
    assert list(tenant.groups.values_list("name", flat=True)) == ["Notebooks"]
    names = set(tenant.organisations.values_list("name", flat=True))
    assert names == {"Acme Limited", "Acme France"}
    roles = dict(tenant.memberships.values_list("user__username", "role"))
    assert roles == {"bob": "admin", "charlie": "viewer"}


def test_an_organisation_is_added_with_its_groups(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    form = {"tenant": tenant_a.pk, "name": "Acme", **inline("groups", {"name": "Servers"})}
    assert client.post(add("organisation"), form).status_code == 302
    assert Group.objects.get(name="Servers").tenant == tenant_a


def test_a_group_is_renamed_and_stays_where_it_is(
    client: Client, staff: User, group_a: Group, group_b: Group
) -> None:
    form = {"name": "Notebooks", "organisation": group_b.organisation_id}
    assert client.post(page_of("group", group_a), form).status_code == 302
    changed = Group.objects.get(pk=group_a.pk)
    assert (changed.name, changed.organisation) == ("Notebooks", group_a.organisation)


def test_a_group_goes_only_when_it_has_no_devices(
    client: Client, staff: User, device_a: Device, group_b: Group
) -> None:
    create_enrollment_key(group_b, name="unused")
    delete = {"post": "yes"}
    assert client.post(page_of("group", device_a.group, "delete"), delete).status_code == 403
    organisation = device_a.group.organisation
    assert client.post(page_of("organisation", organisation, "delete"), delete).status_code == 403
    assert client.post(page_of("group", group_b, "delete"), delete).status_code == 302
    assert list(Group.objects.all()) == [device_a.group]
    assert list(Device.objects.all()) == [device_a]


def test_a_place_with_devices_is_not_deleted_by_the_action(device_a: Device) -> None:
    with pytest.raises(StillInUse):
        delete_place(device_a.group.organisation)
    assert Organisation.objects.filter(pk=device_a.group.organisation_id).exists()


def test_a_tenant_is_not_deleted(client: Client, staff: User, tenant_a: Tenant) -> None:
    delete = page_of("tenant", tenant_a, "delete")
    assert client.post(delete, {"post": "yes"}).status_code == 403


def new_key(client: Client, group: Group, **more: object) -> str:
    form = {"group": group.pk, "name": "June", "max_uses": 3, **more}
    response = shown(client, client.post(add("enrollmentkey"), form))
    assert "no-store" in response.headers["Cache-Control"]
    secret: str = response.context["secret"]
    assert response.content.decode().count(secret) == 1
    return secret


def test_an_enrolment_key_is_shown_once(client: Client, staff: User, group_a: Group) -> None:
    secret = new_key(client, group_a)
    key = EnrollmentKey.objects.get()
    assert key.digest == hash_token(secret)
    assert (key.group, key.max_uses, key.created_by) == (group_a, 3, staff)
    for address in (list_of("enrollmentkey"), page_of("enrollmentkey", key), add("enrollmentkey")):
        page = client.get(address).content.decode()
        assert secret not in page
    assert key.hint in client.get(page_of("enrollmentkey", key)).content.decode()
    assert secret not in str(dict(client.session.items())) + str(client.cookies)


def test_the_key_shown_enrols_a_device(client: Client, staff: User, group_a: Group) -> None:
    found = find_enrollment_key(new_key(client, group_a), group_a.pk)
    assert found == EnrollmentKey.objects.get()


def test_an_enrolment_key_is_not_changed_or_deleted(
    client: Client, staff: User, group_a: Group
) -> None:
    key, _ = create_enrollment_key(group_a, name="June")
    assert client.post(page_of("enrollmentkey", key), {"max_uses": 9}).status_code == 403
    delete = page_of("enrollmentkey", key, "delete")
    assert client.post(delete, {"post": "yes"}).status_code == 403


def test_selected_keys_are_revoked(client: Client, staff: User, group_a: Group) -> None:
    keys = [create_enrollment_key(group_a, name=name)[0] for name in "abc"]
    form = {"action": "revoke_selected", "_selected_action": [keys[0].pk, keys[1].pk]}
    client.post(list_of("enrollmentkey"), form)
    assert list(EnrollmentKey.objects.usable()) == [keys[2]]


def test_the_button_revokes_once_it_is_confirmed(
    client: Client, staff: User, group_a: Group
) -> None:
    key, _ = create_enrollment_key(group_a, name="June")
    button = page_of("enrollmentkey", key, "revoke")
    assert button in client.get(page_of("enrollmentkey", key)).content.decode()
    assert "Revoke this enrolment key?" in client.get(button).content.decode()
    assert EnrollmentKey.objects.usable().exists()
    response = client.post(button, {"_form_submitted": "True"})
    assert response.headers["HX-Redirect"] == page_of("enrollmentkey", key)
    assert not EnrollmentKey.objects.usable().exists()
    page = client.get(page_of("enrollmentkey", key)).content.decode()
    assert "The enrolment key was revoked." in page


def test_who_may_only_look_at_keys_does_not_revoke_them(client: Client, group_a: Group) -> None:
    key, _ = create_enrollment_key(group_a, name="June")
    log_in_with(client, "tenants.view_enrollmentkey")
    button = page_of("enrollmentkey", key, "revoke")
    assert button not in client.get(page_of("enrollmentkey", key)).content.decode()
    assert client.post(button, {"_form_submitted": "True"}).status_code == 403
    form = {"action": "revoke_selected", "_selected_action": [key.pk]}
    client.post(list_of("enrollmentkey"), form)
    assert EnrollmentKey.objects.usable().exists()


def test_keys_are_filtered_by_whether_they_work(
    client: Client, staff: User, group_a: Group
) -> None:
    create_enrollment_key(group_a, name="good-one")
    revoked, _ = create_enrollment_key(group_a, name="bad-one")
    revoke_enrollment_key(revoked)
    usable = client.get(list_of("enrollmentkey"), {"usable": "yes"}).content
    refused = client.get(list_of("enrollmentkey"), {"usable": "no"}).content
    assert (b"good-one" in usable, b"bad-one" in usable) == (True, False)
    assert (b"good-one" in refused, b"bad-one" in refused) == (False, True)


def test_an_api_token_is_shown_once_and_works_until_it_is_deleted(
    client: Client, staff: User, bob: User, device_a: Device
) -> None:
    form = {"user": bob.pk, "name": "cron", "role": "viewer", "expiry_0": "", "expiry_1": ""}
    posted = client.post(add("apitoken"), form)
    response = shown(client, posted)
    secret = response.context["secret"]
    assert response.content.decode().count(secret) == 1
    assert secret not in client.get(list_of("apitoken")).content.decode()
    again = client.get(posted["Location"])
    assert (again.status_code, secret in again.content.decode()) == (410, False)
    assert "cannot be shown again" in again.content.decode()
    assert ApiToken.objects.count() == 1

    def answer() -> int:
        status = f"/api/nats/device/{device_a.pk}/status"
        return Client().get(status, headers={"Authorization": f"Token {secret}"}).status_code

    assert answer() == 200
    token = ApiToken.objects.get(user=bob)
    client.post(page_of("apitoken", token, "delete"), {"post": "yes"})
    assert answer() == 401


def test_a_persons_page_writes_their_memberships(
    client: Client, staff: User, bob: User, tenant_b: Tenant
) -> None:
    membership = Membership.objects.get(user=bob)
    form = {
        "username": "bob",
        "is_active": "on",
        **inline(
            "memberships",
            {"id": membership.pk, "user": bob.pk, "role": "viewer", "DELETE": "on"},
            {"id": "", "user": bob.pk, "tenant": tenant_b.pk, "role": "operator"},
            initial=1,
        ),
    }
    response = client.post(page_of("user", bob), form)
    assert response.status_code == 302, response.context["errors"]
    roles = list(bob.memberships.values_list("tenant", "role"))
    assert roles == [(tenant_b.pk, "operator")]


def test_a_membership_does_not_wander_to_another_tenant(
    client: Client, staff: User, bob: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    membership = Membership.objects.get(user=bob)
    row = {"id": membership.pk, "user": bob.pk, "tenant": tenant_b.pk, "role": "operator"}
    form = {"username": "bob", "is_active": "on", **inline("memberships", row, initial=1)}
    client.post(page_of("user", bob), form)
    assert list(bob.memberships.values_list("tenant", "role")) == [(tenant_a.pk, "operator")]


def test_a_person_is_added_with_a_password(client: Client, staff: User) -> None:
    password = "correct-horse-9"
    form = {
        "username": "dora",
        "usable_password": "true",
        "password1": password,
        "password2": password,
    }
    assert client.post(add("user"), form).status_code == 302
    assert User.objects.get(username="dora").check_password(password)


def test_only_superusers_hand_out_power(client: Client, bob: User, tenant_a: Tenant) -> None:
    user = log_in_with(client, "tenants.view_user", "tenants.change_user")
    set_membership(user, tenant_a, Role.VIEWER)
    form = {"username": "bob", "is_active": "on", **SUPERUSER_ONLY, **inline("memberships")}
    assert client.post(page_of("user", bob), form).status_code == 302
    own = {**form, "username": "stella"}
    assert client.post(page_of("user", user), own).status_code == 302
    assert not User.objects.filter(is_superuser=True).exists()
    assert not User.objects.get(pk=bob.pk).is_staff


def test_only_superusers_touch_superusers(client: Client, db: None) -> None:
    root = User.objects.create_superuser("root", password="old-secret")
    log_in_with(client, "tenants.view_user", "tenants.change_user", "tenants.delete_user")
    password = "new-secret-42"
    passwords = {"password1": password, "password2": password}
    change = reverse("admin:auth_user_password_change", args=[root.pk])
    assert client.post(change, passwords).status_code == 403
    assert client.post(page_of("user", root, "delete"), {"post": "yes"}).status_code == 403
    root.refresh_from_db()
    assert root.check_password("old-secret")


@pytest.mark.parametrize("model", ["accessattempt", "accessfailurelog", "accesslog"])
def test_the_records_of_sign_ins_have_their_pages(client: Client, staff: User, model: str) -> None:
    Client().post(reverse("login"), {"username": "eve", "password": "guess"})
    assert client.get(reverse(f"admin:axes_{model}_changelist")).status_code == 200
