"""The admin's page of a tenant: suspended, resumed, its credentials, keys and limits."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from tenants.actions.suspension import suspend_tenant
from tenants.broker.accounts import record_provisioned, record_provisioning_failed
from tenants.credentials.issue import issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.models import BrokerAccount, BrokerKey, Credential, Tenant, User
from tests.support.people import shown

TENANTS = reverse("admin:tenants_tenant_changelist")
CREDENTIALS = reverse("admin:tenants_credential_changelist")
BUTTONS = ["suspend", "resume", "issue", "rotate", "rotate_keys"]
NO_INLINES = {
    f"{prefix}-{count}": 0
    for prefix in ("organisations", "groups", "memberships")
    for count in ("TOTAL_FORMS", "INITIAL_FORMS")
}


@pytest.fixture
def staff(client: Client, db: None) -> User:
    user = User.objects.create_superuser("sam")
    client.force_login(user)
    return user


def only_looking(client: Client, *codenames: str) -> None:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)


def page_of(tenant: Tenant, view: str = "change") -> str:
    return reverse(f"admin:tenants_tenant_{view}", args=[tenant.pk])


def rotated(client: Client, tenant: Tenant, **fields: object) -> str:
    form = client.get(page_of(tenant, "rotate")).context["form"]
    body = {"kind": "password", "overlap": "1h", "seen": form["seen"].value(), **fields}
    answer = shown(client, client.post(page_of(tenant, "rotate"), body))
    assert "no-store" in answer.headers["Cache-Control"]
    secret: str = answer.context["secret"]
    assert secret in answer.content.decode()
    return secret


@pytest.mark.parametrize("button", BUTTONS)
def test_who_may_only_look_at_tenants_controls_none(
    client: Client, tenant_a: Tenant, button: str
) -> None:
    only_looking(client, "view_tenant")
    page = client.get(page_of(tenant_a)).content.decode()
    assert page_of(tenant_a, button) not in page
    assert "Connections: 10,000" in page
    body = {"reason": "x", "overlap": "1h", "kind": "jwt", "seen": 0}
    assert client.post(page_of(tenant_a, button), body).status_code == 403
    assert Tenant.objects.get().suspended_at is None
    assert not Credential.objects.exists()


def test_a_tenant_is_suspended_with_a_reason_and_resumed(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    suspend, resume = page_of(tenant_a, "suspend"), page_of(tenant_a, "resume")
    page = client.get(page_of(tenant_a)).content.decode()
    assert (suspend in page, resume in page) == (True, False)
    client.post(suspend, {"reason": ""})
    assert Tenant.objects.get().suspended_at is None
    client.post(suspend, {"reason": "the invoice"})
    assert Tenant.objects.get().suspended_by == staff
    page = client.get(page_of(tenant_a)).content.decode()
    assert "by sam: the invoice" in page
    assert (suspend in page, resume in page) == (False, True)
    assert client.get(TENANTS, {"account": "suspended"}).context["cl"].result_count == 1
    client.post(resume)
    assert Tenant.objects.get().suspended_at is None
    assert client.get(TENANTS, {"account": "suspended"}).context["cl"].result_count == 0


@pytest.mark.parametrize("kind", ["jwt", "password"])
def test_a_rotated_credential_is_shown_once(
    client: Client, staff: User, tenant_a: Tenant, kind: str
) -> None:
    secret = rotated(client, tenant_a, kind=kind)
    row = Credential.objects.get()
    assert (row.kind, row.issued_by) == (kind, staff)
    row_page = reverse("admin:tenants_credential_change", args=[row.pk])
    for address in (page_of(tenant_a), CREDENTIALS, row_page):
        assert secret not in client.get(address).content.decode()
    assert f'href="{row_page}"' in client.get(page_of(tenant_a)).content.decode()
    assert secret not in str(dict(client.session.items())) + str(client.cookies)


def test_one_more_credential_is_issued_beside_those_in_use(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    rotated(client, tenant_a, kind="jwt")
    posted = client.post(page_of(tenant_a, "issue"), {"kind": "jwt"})
    answer = shown(client, posted)
    assert "no-store" in answer.headers["Cache-Control"]
    assert "Download acme.creds" in answer.content.decode()
    assert "remains valid" in answer.content.decode()
    assert client.get(posted["Location"]).status_code == 410
    assert [each.state for each in Credential.objects.all()] == ["live", "live"]
    assert "until revoked" in client.get(page_of(tenant_a)).content.decode()
    empty = client.get(CREDENTIALS, {"q": "nothing"}).content.decode()
    assert "Nothing matches" in empty
    assert "Create a new item" not in empty


def test_a_rotation_that_is_refused_shows_why(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    rotated(client, tenant_a)
    seen = Credential.objects.get().pk
    rotated(client, tenant_a, overlap="0")
    body = {"kind": "password", "overlap": "1h", "seen": seen}
    answer = client.post(page_of(tenant_a, "rotate"), body)
    assert "Somebody else has rotated" in answer.content.decode()
    assert Credential.objects.live().count() == 1


def test_the_signing_keys_are_rotated(client: Client, staff: User, tenant_a: Tenant) -> None:
    client.post(page_of(tenant_a, "rotate_keys"), {"overlap": "1h"})
    assert BrokerKey.objects.filter(tenant=tenant_a).exclude(retires_at=None).count() == 2


def test_limits_are_changed_on_the_page_and_are_pending(
    client: Client, staff: User, tenant_a: Tenant, settings: Settings
) -> None:
    settings.TENANT_MAX_CONNECTIONS = 4321
    record_provisioned(tenant_a, timezone.now())
    page = client.get(page_of(tenant_a)).content.decode()
    assert "Empty: the default, 4,321." in page
    assert "Provisioned" in page.split()
    form = {"name": "Acme", "max_connections": 7, "max_subscriptions": "", **NO_INLINES}
    assert client.post(page_of(tenant_a), form).status_code == 302
    account = BrokerAccount.objects.get()
    assert (account.max_connections, account.max_subscriptions) == (7, None)
    page = client.get(page_of(tenant_a)).content.decode()
    assert "Waiting" in page.split()
    assert 'value="7"' in page
    assert client.get(TENANTS, {"account": "waiting"}).context["cl"].result_count == 1


@pytest.mark.parametrize("limit", ["-2", "0", "99999999999", "many"])
def test_a_limit_that_is_none_is_refused_in_place(
    client: Client, staff: User, tenant_a: Tenant, limit: str
) -> None:
    form = {"name": "Acme", "max_connections": limit, **NO_INLINES}
    answer = client.post(page_of(tenant_a), form)
    assert answer.context["adminform"].form.errors.keys() == {"max_connections"}
    assert BrokerAccount.objects.get().max_connections is None


def test_a_tenant_that_the_server_refused_is_found_with_its_words(
    client: Client, staff: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    record_provisioning_failed(tenant_a, "no disk left")
    found = client.get(TENANTS, {"account": "failed"}).context["cl"].result_list
    assert list(found) == [tenant_a]
    assert "no disk left" in client.get(page_of(tenant_a)).content.decode()


def test_a_credential_is_revoked_from_its_page_and_from_the_list(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    kind = Credential.Kind.PASSWORD
    rows = [issue_tenant_credential(tenant_a, kind=kind, by=None).credential for _ in range(2)]
    revoke = reverse("admin:tenants_credential_revoke", args=[rows[0].pk])
    client.post(revoke, {"reason": "leaked"})
    assert list(Credential.objects.live()) == [rows[1]]
    form = {"action": "revoke_selected", "_selected_action": [row.pk for row in rows]}
    client.post(CREDENTIALS, {**form, "confirmed": "yes", "reason": "all of them"})
    assert not Credential.objects.live().exists()
    assert Credential.objects.get(pk=rows[0].pk).end_reason == "leaked"
    only_looking(client, "view_credential")
    assert client.post(revoke, {"reason": "x"}).status_code == 403


def test_credentials_are_found_by_their_owner_and_state(
    client: Client, staff: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    kind = Credential.Kind.PASSWORD
    of_a = issue_tenant_credential(tenant_a, kind=kind, by=None).credential
    of_b = issue_tenant_credential(tenant_b, kind=kind, by=None).credential
    revoke_credential(of_b, by=None, reason="leaked")

    def found(**filters: object) -> list[Credential]:
        return list(client.get(CREDENTIALS, filters).context["cl"].result_list)

    assert found() == [of_b, of_a]
    assert found(q=tenant_a.pk) == found(q=f"tenant_{tenant_a.pk}") == [of_a]
    assert found(state="valid") == [of_a]
    assert found(state="invalid") == [of_b]
    assert found(owner="device") == []


def test_a_suspended_tenants_credential_is_not_offered_for_rotation(
    client: Client, staff: User, tenant_a: Tenant
) -> None:
    suspend_tenant(tenant_a, by=None, reason="")
    assert page_of(tenant_a, "rotate") + '"' not in client.get(page_of(tenant_a)).content.decode()
    body = {"kind": "password", "overlap": "1h", "seen": 0}
    answer = client.post(page_of(tenant_a, "rotate"), body)
    assert "suspended" in answer.content.decode()
    assert not Credential.objects.exists()
