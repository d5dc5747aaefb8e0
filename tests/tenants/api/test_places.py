"""Organisations and groups by the API: who may do what, and what each answer is."""

import uuid
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from devices.models import Device
from tenants.actions.tenants import create_group
from tenants.models import Action, AuditEntry, Group, Organisation, Role, Tenant, User
from tests.tenants.api.support import caller, results

GROUPS, ORGANISATIONS = "/api/groups/", "/api/organisations/"


@pytest.fixture
def as_admin(alice: User) -> APIClient:
    return caller(alice)


def test_a_viewer_lists_the_places_of_their_tenants_only(
    group_a: Group, group_b: Group, bob: User
) -> None:
    api = caller(bob, Role.VIEWER)
    shown = {
        "uuid": str(group_a.pk),
        "tenant": str(group_a.tenant_id),
        "organisation": str(group_a.organisation_id),
        "name": "Laptops",
    }
    assert results(api.get(GROUPS)) == [shown]
    assert api.get(f"{GROUPS}{group_a.pk}/").json() == shown
    assert api.get(f"{GROUPS}{group_b.pk}/").status_code == 404
    organisation = group_a.organisation
    assert results(api.get(ORGANISATIONS)) == [
        {"uuid": str(organisation.pk), "tenant": str(organisation.tenant_id), "name": "Acme Ltd"}
    ]


def test_places_are_filtered_by_what_the_caller_may_see(
    as_admin: APIClient, group_a: Group, group_b: Group
) -> None:
    create_group(group_a.organisation, name="Desks")
    assert len(results(as_admin.get(GROUPS, {"organisation": group_a.organisation_id}))) == 2
    assert [row["name"] for row in results(as_admin.get(GROUPS, {"search": "des"}))] == ["Desks"]
    foreign = as_admin.get(GROUPS, {"organisation": group_b.organisation_id})
    unknown = as_admin.get(GROUPS, {"organisation": uuid.uuid4()})
    assert foreign.status_code == unknown.status_code == 400
    assert foreign.json() == unknown.json()


def test_an_admin_creates_renames_and_deletes_a_group(as_admin: APIClient, group_a: Group) -> None:
    created = as_admin.post(
        GROUPS, {"organisation": group_a.organisation_id, "name": "Desks"}, "json"
    )
    assert created.status_code == 201
    address = f"{GROUPS}{created.json()['uuid']}"
    assert as_admin.get(address).json() == created.json()
    renamed = as_admin.patch(address, {"name": "Tables"}, "json")
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Tables")
    assert as_admin.delete(address).status_code == 204
    assert as_admin.get(address).status_code == 404
    told = AuditEntry.objects.filter(actor="alice").order_by("id").values_list("action", flat=True)
    places = [action for action in told if action.startswith("place.")]
    assert places == [Action.PLACE_CREATED, Action.PLACE_RENAMED, Action.PLACE_DELETED]


def test_an_admin_creates_renames_and_deletes_an_organisation(
    as_admin: APIClient, tenant_a: Tenant
) -> None:
    created = as_admin.post(ORGANISATIONS, {"tenant": tenant_a.pk, "name": "North"}, "json")
    assert created.status_code == 201
    address = f"{ORGANISATIONS}{created.json()['uuid']}/"
    assert as_admin.patch(address, {"name": "South"}, "json").json()["name"] == "South"
    assert as_admin.delete(address).status_code == 204
    assert not Organisation.objects.filter(name__in=("North", "South")).exists()


def test_a_place_with_devices_is_not_deleted(as_admin: APIClient, device_a: Device) -> None:
    for address in (
        f"{GROUPS}{device_a.group_id}",
        f"{ORGANISATIONS}{device_a.group.organisation_id}",
    ):
        answer = as_admin.delete(address)
        assert (answer.status_code, answer.json()["type"]) == (409, "still-in-use")
    assert Device.objects.filter(pk=device_a.pk).exists()


def test_a_name_is_taken_once_in_its_place(as_admin: APIClient, group_a: Group) -> None:
    body = {"organisation": str(group_a.organisation_id), "name": "Laptops"}
    other = create_group(group_a.organisation, name="Desks")
    for answer in (
        as_admin.post(GROUPS, body, "json"),
        as_admin.patch(f"{GROUPS}{other.pk}", {"name": "Laptops"}, "json"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (409, "name-taken")
    assert Group.objects.filter(name="Laptops").count() == 1


def test_neither_a_viewer_nor_an_outsider_writes(
    group_a: Group, alice: User, bob: User, charlie: User
) -> None:
    body = {"organisation": str(group_a.organisation_id), "name": "Desks"}
    address = f"{GROUPS}{group_a.pk}/"
    for weak in (caller(bob), caller(alice, Role.VIEWER), caller(alice, Role.OPERATOR)):
        assert weak.post(GROUPS, body, "json").status_code == 403
        assert weak.patch(address, {"name": "X"}, "json").status_code == 403
        assert weak.delete(address).status_code == 403
    outsider = caller(charlie)
    assert outsider.patch(address, {"name": "X"}, "json").status_code == 404
    assert outsider.delete(address).status_code == 404
    foreign = outsider.post(GROUPS, body, "json")
    unknown = outsider.post(GROUPS, body | {"organisation": str(uuid.uuid4())}, "json")
    assert foreign.status_code == unknown.status_code == 400
    for answer, pk in ((foreign, body["organisation"]), (unknown, None)):
        [error] = answer.json()["errors"]
        assert error["field"] == "organisation"
        assert error["detail"].startswith("There is no organisation")
        assert pk is None or pk in error["detail"]
    assert list(Group.objects.filter(tenant=group_a.tenant).values_list("name")) == [("Laptops",)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "X"}, "organisation"),
        ({"organisation": "{}"}, "name"),
        ({"organisation": "{}", "name": ""}, "name"),
        ({"organisation": "{}", "name": "a\0b"}, "name"),
        ({"organisation": "{}", "name": "a\u202eb"}, "name"),
        ({"organisation": "{}", "name": "x" * 201}, "name"),
        ({"organisation": "{}", "name": ["x"]}, "name"),
        ({"organisation": "{}", "name": "X", "colour": "red"}, "colour"),
        ({"organisation": "{}", "name": "X", "tenant": "{}"}, "tenant"),
        ({"organisation": "not-a-uuid", "name": "X"}, "organisation"),
        ({"organisation": ["{}"], "name": "X"}, "organisation"),
        ({"organisation": {"uuid": 1}, "name": "X"}, "organisation"),
        ({"organisation": None, "name": "X"}, "organisation"),
        ([], ""),
    ],
)
def test_what_is_wrong_in_a_body_is_named(
    as_admin: APIClient, group_a: Group, body: Any, field: str
) -> None:
    if isinstance(body, dict) and body.get("organisation") == "{}":
        body = body | {"organisation": str(group_a.organisation_id)}
    answer = as_admin.post(GROUPS, body, "json")
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid")
    assert {error["field"] for error in answer.json()["errors"]} == {field}
    assert Group.objects.count() == 1


def test_a_group_stays_in_its_organisation(as_admin: APIClient, group_a: Group) -> None:
    address = f"{GROUPS}{group_a.pk}"
    for body, field in (({"organisation": str(group_a.organisation_id)}, "organisation"), ({}, "")):
        answer = as_admin.patch(address, body, "json")
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert as_admin.put(address, {"name": "X"}, "json").status_code == 405


def test_a_session_needs_a_csrf_token_to_write(group_a: Group, alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert len(results(browser.get(GROUPS))) == 1
    body = {"organisation": str(group_a.organisation_id), "name": "Desks"}
    kind = "application/json"
    assert browser.post(GROUPS, body, content_type=kind).status_code == 403
    browser.get("/account/")
    token = {"HTTP_X_CSRFTOKEN": browser.cookies["csrftoken"].value}
    assert browser.post(GROUPS, body, content_type=kind, **token).status_code == 201


def test_a_session_opens_nothing_that_agents_call(group_a: Group, alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    assert browser.get(f"/api/nats/tenant/{group_a.tenant_id}").status_code == 401
