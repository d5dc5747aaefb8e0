"""The audit's page, for admins of tenants who are no staff."""

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from devices.enrolment.credentials import delete_devices, revoke_device
from devices.models import Device
from tenants.actions.keys import create_api_token, revoke_api_token
from tenants.actions.people import create_person, delete_person
from tenants.audit.writer import Actor, device_actor, record_action
from tenants.credentials.issue import issue_device_password, issue_tenant_credential
from tenants.models import Action, ActorKind, AuditEntry, Credential, Role, Tenant, User
from tests.tenants.api.nats.test_audit import content

PAGE = "/audit/"


@pytest.fixture
def as_alice(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def text(answer: Any) -> str:
    return str(answer.content.decode())


def shown(client: Client, action: Action) -> Any:
    """The newest row of this action."""
    return client.get(PAGE, {"action": action}).context["rows"][0]


def test_an_admin_sees_the_own_tenants_and_no_others(
    as_alice: Client, tenant_a: Tenant, tenant_b: Tenant, device_a: Device, device_b: Device
) -> None:
    shown = text(as_alice.get(PAGE))
    assert f'<a href="/devices/{device_a.pk}/">anna-laptop</a>' in shown
    assert "berta-server" not in shown
    assert "berta-server" not in text(as_alice.get(PAGE, {"device": device_b.pk}))
    assert as_alice.get(PAGE, {"tenant": tenant_b.pk}).status_code == 422
    assert f'href="{PAGE}"' in text(as_alice.get("/"))


@pytest.mark.parametrize("page", [PAGE, "/audit/export/"])
def test_it_is_for_admins_only(client: Client, bob: User, page: str) -> None:
    assert client.get(page).status_code == 302
    client.force_login(bob)
    assert client.get(page).status_code == 403
    assert f'href="{PAGE}"' not in text(client.get("/"))


def test_markup_in_what_others_typed_is_only_text(as_alice: Client, tenant_a: Tenant) -> None:
    evil = "<script>alert(1)</script>"
    record_action(
        Action.BROKER_REFUSED,
        tenant=tenant_a.pk,
        by=Actor(ActorKind.UNKNOWN, evil),
        target=evil,
        detail={evil: {"from": evil, "to": [evil]}},
    )
    assert evil not in text(as_alice.get(PAGE))


def test_people_read_names_and_reasons_and_may_unfold_the_rest(
    as_alice: Client, alice: User, device_a: Device, redis_server: object
) -> None:
    issue_device_password(device_a.tenant_id, device_a.pk)
    revoke_device(device_a, by=alice, reason="lost in Bern")
    row = shown(as_alice, Action.CREDENTIAL_REVOKED)
    assert (row.who.text, row.target.text) == ("alice", "anna-laptop")
    assert row.target.path == f"/devices/{device_a.pk}/"
    assert [each.text for each in row.facts] == ["JWT", "lost in Bern"]
    assert {each.label for each in row.folded} == {"Credential", "Device"}
    issued = shown(as_alice, Action.CREDENTIAL_ISSUED)
    assert (issued.who.text, issued.target) == ("anna-laptop", None), "by itself, to itself"


def test_a_device_that_is_gone_keeps_its_name(
    as_alice: Client, alice: User, device_a: Device, redis_server: object
) -> None:
    issue_device_password(device_a.tenant_id, device_a.pk)
    delete_devices([device_a], by=alice, reason="scrapped")
    row = shown(as_alice, Action.CREDENTIAL_REVOKED)
    assert (row.target.text, row.target.path) == ("anna-laptop", "")


def test_who_was_refused_is_not_who_it_said_it_was(as_alice: Client, device_a: Device) -> None:
    name = f"device_{device_a.pk}"
    record_action(
        Action.BROKER_REFUSED,
        tenant=device_a.tenant_id,
        by=Actor(ActorKind.UNKNOWN, name),
        device=device_a.pk,
        target=name,
    )
    row = shown(as_alice, Action.BROKER_REFUSED)
    assert (row.who.text, row.target.text) == ("Unknown", "anna-laptop")


def test_a_tenants_own_credential_leads_to_its_page(as_alice: Client, tenant_a: Tenant) -> None:
    issue_tenant_credential(tenant_a, kind=Credential.Kind.JWT, by=None)
    row = shown(as_alice, Action.CREDENTIAL_ISSUED)
    assert (row.target.text, row.target.path) == ("own credential", f"/tenant/{tenant_a.pk}/")


def test_the_page_asks_no_more_for_more_entries(
    as_alice: Client, tenant_a: Tenant, django_assert_max_num_queries: Any
) -> None:
    for _ in range(40):
        device = device_actor(uuid4())
        record_action(Action.DEVICE_UPGRADED, tenant=tenant_a.pk, by=device, device=uuid4())
    with django_assert_max_num_queries(16):
        assert len(as_alice.get(PAGE).context["rows"]) >= 40


def test_it_pages_and_filters(as_alice: Client, tenant_a: Tenant) -> None:
    for number in range(60):
        by = Actor(ActorKind.UNKNOWN, f"eve {number}")
        record_action(Action.BROKER_REFUSED, tenant=tenant_a.pk, by=by)
    query = {"action": "broker.refused"}
    first = as_alice.get(PAGE, query)
    assert len(first.context["rows"]) == 50
    second = as_alice.get(PAGE, {**query, "before": first.context["following"]})
    assert len(second.context["rows"]) == 10
    assert "Older" not in text(second)
    assert len(as_alice.get(PAGE, {"actor": "eve 7"}).context["rows"]) == 1
    assert "Nothing matches" in text(as_alice.get(PAGE, {"until": "2020-01-01"}))


def test_a_filter_that_cannot_be_read_is_said(as_alice: Client) -> None:
    for query in ({"since": "soon"}, {"device": "x"}, {"action": "y"}, {"before": "0"}):
        answer = as_alice.get(PAGE, query)
        assert answer.status_code == 422
        assert "not valid" in text(answer)


def test_it_offers_nothing_that_happens_in_no_tenant(as_alice: Client, alice: User) -> None:
    dora = create_person(User(username="dora"), by=alice)
    token, _ = create_api_token(dora, name="t", role=Role.VIEWER, expires_at=None, by=alice)
    revoke_api_token(token, by=alice)
    delete_person(dora, by=alice)
    elsewhere = set(AuditEntry.objects.filter(tenant_uuid=None).values_list("action", flat=True))
    assert elsewhere >= {Action.PERSON_DELETED, Action.API_TOKEN_REVOKED}
    offered = {value for value, _ in as_alice.get(PAGE).context["filters"].fields["action"].choices}
    assert not offered & elsewhere
    assert offered >= {Action.MEMBERSHIP_SET, Action.BROKER_REFUSED, Action.AUDIT_EXPORTED}


def test_an_export_has_what_is_filtered_and_is_told(
    as_alice: Client, tenant_a: Tenant, device_a: Device, device_b: Device
) -> None:
    query = {"format": "jsonl", "device": str(device_a.pk)}
    lines = content(as_alice.get("/audit/export/", query)).splitlines()
    assert len(lines) == 1
    assert "anna-laptop" in lines[0]
    told = AuditEntry.objects.get(action=Action.AUDIT_EXPORTED)
    assert (told.tenant_uuid, told.actor, told.via) == (tenant_a.pk, "alice", "web")
    assert as_alice.get("/audit/export/", {"format": "exe"}).status_code == 422


def test_staff_read_filter_and_export_all_of_it_in_the_admin(
    client: Client, tenant_a: Tenant, device_a: Device, device_b: Device
) -> None:
    client.force_login(User.objects.create_superuser("sam"))
    listing = reverse("admin:tenants_auditentry_changelist")
    shown = text(client.get(listing))
    assert "anna-laptop" in shown
    assert "berta-server" in shown
    query = {"tenant": str(tenant_a.pk), "action__exact": "device.registered"}
    for narrowed in (query, {"q": str(device_a.pk)}, {"q": "anna-laptop"}):
        shown = text(client.get(listing, narrowed))
        assert "device anna-laptop" in shown
        assert "device berta-server" not in shown
    export = reverse("admin:tenants_auditentry_export", args=["jsonl"])
    assert len(content(client.get(export, query)).splitlines()) == 1
    assert AuditEntry.objects.get(action=Action.AUDIT_EXPORTED).detail["filters"] == query
    assert client.get(export.replace("jsonl", "exe")).status_code == 404
    entry = AuditEntry.objects.filter(device_uuid=device_a.pk)[0]
    page = reverse("admin:tenants_auditentry_change", args=[entry.pk])
    assert "enrolment_key" in text(client.get(page))
    assert client.post(page, {"target": "x"}).status_code == 403


def test_an_export_asked_for_with_a_nul_is_on_record_too(client: Client, device_a: Device) -> None:
    client.force_login(User.objects.create_superuser("sam"))
    export = reverse("admin:tenants_auditentry_export", args=["jsonl"])
    assert client.get(export, {"q": "a\0b \\u0000"}).status_code == 200
    entry = AuditEntry.objects.get(action=Action.AUDIT_EXPORTED)
    assert entry.detail["filters"] == {"q": "a\ufffdb \\u0000"}


def test_staff_without_the_permission_export_nothing(client: Client, device_a: Device) -> None:
    client.force_login(User.objects.create_user("stella", is_staff=True))
    export = reverse("admin:tenants_auditentry_export", args=["csv"])
    assert client.get(export).status_code == 403
