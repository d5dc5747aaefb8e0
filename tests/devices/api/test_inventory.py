"""Tags and custom fields by the API."""

from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from devices.inventory.custom_fields import set_values
from devices.models import CustomField, Device, Tag
from tenants.models import Role, Tenant, User
from tests.tenants.api.test_places import caller, results

TAGS, FIELDS = "/api/tags/", "/api/custom-fields/"


@pytest.fixture
def as_admin(alice: User) -> APIClient:
    return caller(alice)


def test_an_admin_creates_renames_and_deletes_a_tag(
    as_admin: APIClient, bob: User, tenant_a: Tenant
) -> None:
    created = as_admin.post(TAGS, {"tenant": tenant_a.pk, "name": "Server"}, "json")
    assert created.status_code == 201
    tag = f"{TAGS}{created.json()['uuid']}"
    taken = as_admin.post(TAGS, {"tenant": tenant_a.pk, "name": "SERVER"}, "json")
    assert (taken.status_code, taken.json()["type"]) == (409, "name-taken")
    assert as_admin.patch(tag, {"name": "Host"}, "json").json()["name"] == "Host"
    reading = caller(bob)
    assert results(reading.get(TAGS, {"search": "hos"})) == [reading.get(tag).json()]
    assert reading.delete(tag).status_code == 403
    assert as_admin.delete(tag).status_code == 204


def test_an_admin_defines_changes_and_deletes_a_field(
    as_admin: APIClient, tenant_a: Tenant, device_a: Device
) -> None:
    body = {"tenant": tenant_a.pk, "name": "Site", "type": "choice", "choices": ["Bonn", "Berlin"]}
    created = as_admin.post(FIELDS, body, "json")
    assert created.status_code == 201
    assert created.json()["choices"] == ["Bonn", "Berlin"]
    field = f"{FIELDS}{created.json()['uuid']}"
    set_values(device_a, {"Site": "Bonn"}, by=None)
    in_use = as_admin.patch(field, {"choices": ["Berlin"]}, "json")
    assert (in_use.status_code, in_use.json()["type"]) == (409, "still-in-use")
    more = as_admin.patch(field, {"name": "Place", "choices": ["Bonn", "Köln"]}, "json").json()
    assert (more["name"], more["choices"]) == ("Place", ["Bonn", "Köln"])
    for fixed in ({"type": "text"}, {"tenant": str(tenant_a.pk)}):
        assert as_admin.patch(field, fixed, "json").status_code == 400
    assert as_admin.delete(field).status_code == 204
    device_a.refresh_from_db()
    assert device_a.custom_values == {}


@pytest.mark.parametrize(
    ("body", "kind", "named"),
    [
        ({"name": "X"}, "invalid", "type"),
        ({"name": "X", "type": "colour"}, "invalid", "type"),
        ({"name": "X", "type": "choice"}, "inventory-refused", "at least one choice"),
        ({"name": "X", "type": "choice", "choices": "a"}, "invalid", "choices"),
        ({"name": "X", "type": "choice", "choices": ["a"] * 101}, "invalid", "choices"),
        ({"name": "X", "type": "text", "choices": ["a"]}, "inventory-refused", "no choices"),
        ({"name": "X__gte", "type": "text"}, "inventory-refused", "underscores"),
        ({"name": "a\0b", "type": "text"}, "invalid", "name"),
        ({"name": "x" * 51, "type": "text"}, "invalid", "name"),
    ],
)
def test_a_field_that_cannot_work_is_refused(
    as_admin: APIClient, tenant_a: Tenant, body: dict[str, Any], kind: str, named: str
) -> None:
    answer = as_admin.post(FIELDS, {"tenant": str(tenant_a.pk), **body}, "json")
    assert (answer.status_code, answer.json()["type"]) == (400, kind)
    assert named in answer.json()["detail"]
    assert not CustomField.objects.exists()


@pytest.mark.parametrize("resource", [TAGS, FIELDS])
def test_an_outsider_and_a_viewer_define_nothing(
    alice: User, bob: User, charlie: User, tenant_a: Tenant, resource: str
) -> None:
    body = {"tenant": str(tenant_a.pk), "name": "X"}
    if resource == FIELDS:
        body["type"] = "text"
    created = caller(alice).post(resource, body, "json").json()
    one = f"{resource}{created['uuid']}/"
    outsider = caller(charlie)
    assert results(outsider.get(resource)) == []
    assert {outsider.get(one).status_code, outsider.delete(one).status_code} == {404}
    foreign = outsider.post(resource, body, "json")
    unknown = outsider.post(resource, body | {"tenant": str(uuid4())}, "json")
    assert foreign.status_code == unknown.status_code == 400
    for weak in (caller(bob), caller(alice, Role.OPERATOR)):
        assert weak.post(resource, body | {"name": "Y"}, "json").status_code == 403
        assert weak.patch(one, {"name": "Y"}, "json").status_code == 403
        assert weak.delete(one).status_code == 403
    assert Tag.objects.count() + CustomField.objects.count() == 1
