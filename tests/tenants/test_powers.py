"""Staff who would take over somebody who may more: each way through the admin, attacked."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group as StaffRole
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from tenants.actions import powers
from tenants.actions.keys import create_api_token, revoke_api_token
from tenants.actions.people import change_person, create_person, delete_person, set_membership
from tenants.actions.tenants import create_tenant
from tenants.errors import PowerMissing
from tenants.models import ApiToken, Membership, Role, Tenant, User
from tests.tenants.test_admin import add, inline, list_of, page_of

NEW = "taken-over-42"
# What the attacker has not, and one of the victims has.
MISSING = "delete_device"


def everything() -> Any:
    return Permission.objects.exclude(codename=MISSING)


@pytest.fixture
def mallory(client: Client, db: None) -> User:
    """Staff with every permission but one, and no superuser."""
    user = User.objects.create_user("mallory", password="mallory-password", is_staff=True)
    user.user_permissions.set(everything())
    client.force_login(user)
    return user


def superuser() -> User:
    return User.objects.create_superuser("victim", password="old-secret")


def retired_superuser() -> User:
    user = superuser()
    user.is_active = False
    user.save()
    return user


def staff_with_more() -> User:
    user = User.objects.create_user("victim", password="old-secret", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=MISSING))
    return user


def staff_with_more_by_a_role() -> User:
    user = User.objects.create_user("victim", password="old-secret", is_staff=True)
    role = StaffRole.objects.create(name="removers")
    role.permissions.add(Permission.objects.get(codename=MISSING))
    user.groups.add(role)
    return user


def retired_staff_with_more() -> User:
    user = staff_with_more()
    user.is_active = False
    user.save()
    return user


def member() -> User:
    user = User.objects.create_user("victim", password="old-secret")
    set_membership(user, create_tenant(name="Victims"), Role.VIEWER)
    return user


VICTIMS = [
    superuser,
    retired_superuser,
    staff_with_more,
    staff_with_more_by_a_role,
    retired_staff_with_more,
    member,
]


@pytest.fixture(params=VICTIMS, ids=lambda make: make.__name__)
def victim(request: pytest.FixtureRequest, db: None) -> Iterator[User]:
    user = request.param()
    token, _ = create_api_token(user, name="theirs", role=Role.VIEWER, expires_at=None)
    before = as_it_is(user)
    yield user
    # Whatever a test has tried, and whatever was answered.
    assert as_it_is(user) == before
    assert list(ApiToken.objects.filter(user=user)) == [token]


def as_it_is(user: User) -> dict[str, Any]:
    found: dict[str, Any] = User.objects.filter(pk=user.pk).values().get()
    found["roles"] = sorted(user.memberships.values_list("tenant__name", "role"))
    found["groups"] = sorted(user.groups.values_list("name", flat=True))
    found["permissions"] = sorted(user.user_permissions.values_list("codename", flat=True))
    return found


def memberships_of(user: User, **change: object) -> dict[str, object]:
    rows = [
        {"id": each.pk, "user": user.pk, "role": each.role, **change}
        for each in user.memberships.all()
    ]
    return inline("memberships", *rows, initial=len(rows))


@pytest.mark.usefixtures("mallory")
def test_nobody_sets_the_password_of_somebody_who_may_more(client: Client, victim: User) -> None:
    change = reverse("admin:auth_user_password_change", args=[victim.pk])
    for form in (
        {"usable_password": "true", "password1": NEW, "password2": NEW, "set-password": "1"},
        {"usable_password": "false", "unset-password": "1"},
    ):
        assert client.post(change, form).status_code == 403


@pytest.mark.usefixtures("mallory")
def test_nobody_changes_deactivates_or_renames_somebody_who_may_more(
    client: Client, victim: User
) -> None:
    for form in (
        {"username": "victim"},
        {"username": "other", "is_active": "on"},
        {"username": "victim", "is_active": "on", "email": "mallory@evil.example"},
        {"username": "victim", "is_active": "on", **memberships_of(victim, DELETE="on")},
        {"username": "victim", "is_active": "on", "is_staff": "on", "is_superuser": "on"},
    ):
        form = {**memberships_of(victim), **form}
        assert client.post(page_of("user", victim), form).status_code == 403


@pytest.mark.usefixtures("mallory")
def test_nobody_deletes_somebody_who_may_more(client: Client, victim: User) -> None:
    assert client.post(page_of("user", victim, "delete"), {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [victim.pk], "post": "yes"}
    client.post(list_of("user"), form)


@pytest.mark.usefixtures("mallory")
def test_nobody_makes_or_revokes_a_token_of_somebody_who_may_more(
    client: Client, victim: User
) -> None:
    form = {"user": victim.pk, "name": "mine now", "role": "admin", "expiry_0": "", "expiry_1": ""}
    assert client.post(add("apitoken"), form).status_code == 403
    token = ApiToken.objects.get(user=victim)
    assert client.post(page_of("apitoken", token, "delete"), {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [token.pk], "post": "yes"}
    assert client.post(list_of("apitoken"), form).status_code == 403


@pytest.mark.usefixtures("mallory")
def test_who_may_more_is_shown_without_a_password_hash_or_a_form(
    client: Client, victim: User
) -> None:
    page = client.get(page_of("user", victim)).content.decode()
    assert "victim" in page
    assert victim.password not in page
    assert 'name="_save"' not in page


def test_nobody_gives_himself_a_power_by_any_form_of_a_person(
    client: Client, mallory: User, tenant_a: Tenant
) -> None:
    role = StaffRole.objects.create(name="everything")
    role.permissions.set(Permission.objects.all())
    powers_asked = {
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [role.pk],
        "user_permissions": list(Permission.objects.values_list("pk", flat=True)),
    }
    before = as_it_is(mallory)
    own = {"username": "mallory", **powers_asked, **inline("memberships")}
    assert client.post(page_of("user", mallory), own).status_code == 302
    assert as_it_is(mallory) == before
    new = {"username": "puppet", "usable_password": "true", "password1": NEW, "password2": NEW}
    client.post(add("user"), {**new, **powers_asked, **memberships_of(mallory)})
    puppet = as_it_is(User.objects.get(username="puppet"))
    given = ("is_staff", "is_superuser", "groups", "permissions", "roles")
    assert not any(puppet[each] for each in given)
    for path in (
        reverse("admin:auth_group_add"),
        reverse("admin:auth_group_change", args=[role.pk]),
        reverse("admin:auth_group_delete", args=[role.pk]),
    ):
        assert client.post(path, {"name": "x", "permissions": []}).status_code == 403


@pytest.mark.parametrize("row", [None, Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize("where", ["tenant", "user"])
def test_nobody_gives_himself_a_role_beyond_his_own(
    client: Client, mallory: User, tenant_a: Tenant, row: Role | None, where: str
) -> None:
    form: dict[str, object] = {"id": "", "tenant": tenant_a.pk, "user": mallory.pk, "role": "admin"}
    if row:
        form["id"] = set_membership(mallory, tenant_a, row).pk
    content = {"name": "Acme", "username": "mallory", "is_active": "on"}
    for prefix in ("organisations", "groups"):
        content |= inline(prefix)  # type: ignore[arg-type]
    content |= inline("memberships", form, initial=int(bool(row)))  # type: ignore[arg-type]
    page = page_of(where, tenant_a if where == "tenant" else mallory)
    answer = client.post(page, content)
    assert answer.status_code == 200
    assert "a role that you do not have" in answer.content.decode()
    roles = list(mallory.memberships.values_list("role", flat=True))
    assert roles == ([row.value] if row else [])


@pytest.mark.usefixtures("mallory")
@pytest.mark.parametrize("change", [{"role": "viewer"}, {"DELETE": "on"}])
def test_nobody_takes_a_role_beyond_his_own(
    client: Client, tenant_a: Tenant, alice: User, change: dict[str, str]
) -> None:
    membership = Membership.objects.get(user=alice)
    row = {"id": membership.pk, "tenant": tenant_a.pk, "user": alice.pk, "role": "admin", **change}
    content = {"name": "Acme", **inline("organisations"), **inline("groups")}
    content |= inline("memberships", row, initial=1)
    assert client.post(page_of("tenant", tenant_a), content).status_code == 200
    assert Membership.objects.get(user=alice).role == Role.ADMIN


def test_the_own_password_needs_the_old_one_in_the_admin_too(client: Client, mallory: User) -> None:
    path = client.get(reverse("admin:password_change")).headers["Location"]
    form = {"old_password": "guess", "new_password1": NEW, "new_password2": NEW}
    client.post(path, form, follow=True)
    mallory.refresh_from_db()
    assert mallory.check_password("mallory-password")


@pytest.mark.parametrize(
    "do",
    [
        lambda by, victim: change_person(victim, by=by),
        lambda by, victim: delete_person(victim, by=by),
        lambda by, victim: create_api_token(
            victim, name="x", role=Role.VIEWER, expires_at=None, by=by
        ),
        lambda by, victim: revoke_api_token(ApiToken.objects.get(user=victim), by=by),
        lambda by, victim: create_person(User(username="x", is_staff=True), by=by),
        lambda by, victim: create_person(User(username="x", is_superuser=True), by=by),
    ],
)
def test_the_actions_refuse_it_from_every_caller(
    mallory: User, victim: User, do: Callable[[User, User], object]
) -> None:
    with pytest.raises(PowerMissing):
        do(mallory, victim)


def test_outsiders_cover_nobody_of_another_tenant(alice: User, bob: User, charlie: User) -> None:
    assert powers.covers(alice, bob)
    assert not powers.covers(bob, alice)
    assert not powers.covers(charlie, alice)
    assert not powers.covers(charlie, bob)


def test_a_help_desk_helps_people_who_may_no_more_than_itself(
    client: Client, tenant_a: Tenant, bob: User
) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__endswith="_user"))
    helper.user_permissions.add(
        *Permission.objects.filter(codename__in=["add_apitoken", "delete_apitoken"]),
        *Permission.objects.filter(codename__endswith="_membership"),
    )
    set_membership(helper, tenant_a, Role.OPERATOR)
    client.force_login(helper)
    change = reverse("admin:auth_user_password_change", args=[bob.pk])
    form = {"usable_password": "true", "password1": NEW, "password2": NEW, "set-password": "1"}
    assert client.post(change, form).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password(NEW)
    membership = Membership.objects.get(user=bob)
    row = {"id": membership.pk, "user": bob.pk, "role": "operator"}
    form = {"username": "bob", "is_active": "on", **inline("memberships", row, initial=1)}  # type: ignore[dict-item]
    assert client.post(page_of("user", bob), form).status_code == 302
    assert Membership.objects.get(user=bob).role == Role.OPERATOR
    wanted = {"user": bob.pk, "name": "cron", "role": "viewer", "expiry_0": "", "expiry_1": ""}
    assert client.post(add("apitoken"), wanted).status_code == 302
    token = ApiToken.objects.get(user=bob)
    assert client.post(page_of("apitoken", token, "delete"), {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("codename", ["change_user", "add_apitoken", "delete_user", None])
def test_one_permission_alone_takes_nobody_over(
    client: Client, victim: User, codename: str | None
) -> None:
    """As in the report: staff with `change_user` or `add_apitoken` and nothing else."""
    stella = User.objects.create_user("stella", is_staff=True)
    stella.user_permissions.set(Permission.objects.filter(codename=codename))
    client.force_login(stella)
    change = reverse("admin:auth_user_password_change", args=[victim.pk])
    form = {"usable_password": "true", "password1": NEW, "password2": NEW, "set-password": "1"}
    wanted = {"user": victim.pk, "name": "x", "role": "admin", "expiry_0": "", "expiry_1": ""}
    attempts: list[tuple[str, dict[str, Any]]] = [
        (change, form),
        (page_of("user", victim), {"username": "victim", **memberships_of(victim)}),
        (page_of("user", victim, "delete"), {"post": "yes"}),
        (add("apitoken"), wanted),
    ]
    assert [client.post(path, content).status_code for path, content in attempts] == [403] * 4
