"""Imports of devices and migrations of tenants by the API: bodies, answers, and what is refused."""

import json
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from devices.models import Device, DeviceImport
from devices.onboarding.imports import ImportReport
from tenants.models import Group, Role, Tenant, User
from tests.devices.onboarding.conftest import imported, lines_of, logs_in
from tests.support.people import authorization

__all__ = ["imported"]

IMPORTS = "/api/device-imports"


@pytest.fixture
def as_admin(alice: User) -> APIClient:
    return caller(alice)


def caller(person: User, role: Role = Role.ADMIN) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(person, role))
    return api


def body(group: Group, *uuids: object, **more: Any) -> dict[str, Any]:
    devices = [{"uuid": str(each), "name": f"device-{each}"} for each in uuids]
    return {"tenant": str(group.tenant_id), "group": str(group.pk), "devices": devices, **more}


def fields(answer: Any) -> list[str]:
    assert answer.status_code == 400, answer.content
    return [error["field"] for error in answer.json()["errors"]]


def test_devices_are_imported_from_json_after_a_dry_run(
    as_admin: APIClient, group_a: Group
) -> None:
    known = uuid4()
    looked = as_admin.post(IMPORTS, body(group_a, known, "x", dry_run=True), "json")
    assert looked.status_code == 200
    assert looked.json() == {
        "uuid": None,
        "created": [str(known)],
        "existing": [],
        "error_count": 1,
        "errors": [{"line": 2, "column": "uuid", "detail": '"x" is not a valid UUID.'}],
    }
    assert not Device.objects.exists()
    created = as_admin.post(IMPORTS, body(group_a, known), "json")
    assert created.status_code == 201
    row = as_admin.get(f"{IMPORTS}/{created.json()['uuid']}").json()
    assert (row["device_count"], row["created_by_name"], row["undone_at"]) == (1, "alice", None)
    again = as_admin.post(IMPORTS, body(group_a, known), "json")
    assert (again.status_code, again.json()["existing"]) == (200, [str(known)])


def test_devices_are_imported_from_csv(as_admin: APIClient, group_a: Group) -> None:
    def send(content: bytes, query: str) -> Any:
        return as_admin.post(f"{IMPORTS}?{query}", content, content_type="text/csv; charset=utf-8")

    query = f"tenant={group_a.tenant_id}&group={group_a.pk}"
    content = lines_of([uuid4(), uuid4()])
    looked = send(content, f"{query}&dry_run=true")
    assert (looked.status_code, len(looked.json()["created"])) == (200, 2)
    assert not Device.objects.exists()
    answer = send(content, query)
    assert (answer.status_code, len(answer.json()["created"])) == (201, 2)
    wrong = send(lines_of(["x", "y"]), query)
    assert wrong.json()["type"] == "import-refused"
    assert fields(wrong) == ["line 2, uuid", "line 3, uuid"]
    assert fields(send(content, f"{query}&x=1")) == ["x"]
    assert fields(send(content, "")) == ["tenant"]
    assert fields(send(b"", query)) == ["line 1, uuid", "line 1, name"]


def test_what_is_wrong_with_a_body_is_named(
    as_admin: APIClient, group_a: Group, group_b: Group, charlie: User
) -> None:
    good = body(group_a, uuid4())
    for wrong, field in (
        ({**good, "tenant": str(group_b.tenant_id)}, "tenant"),
        ({**good, "group": str(group_b.pk)}, "group"),
        ({**good, "devices": {}}, "devices"),
        ({**good, "devices": [{**good["devices"][0], "group": "\0"}]}, "line 1, group"),
        ({**good, "colour": "red"}, "colour"),
    ):
        assert fields(as_admin.post(IMPORTS, wrong, "json")) == [field]
    assert as_admin.post(f"{IMPORTS}?tenant=x", good, "json").status_code == 400
    assert caller(charlie).post(IMPORTS, good, "json").status_code == 400
    assert not DeviceImport.objects.exists()


def test_an_import_is_undone(as_admin: APIClient, imported: ImportReport, charlie: User) -> None:
    assert imported.record
    address = f"{IMPORTS}/{imported.record.pk}/undo"
    assert caller(charlie).post(address).status_code == 404
    logs_in(imported.created[0])
    assert as_admin.post(address).json() == {"deleted": 2, "kept": 1}


def test_a_group_is_moved_with_tokens_followed_and_undone(
    as_admin: APIClient, imported: ImportReport, group_a: Group, bob: User
) -> None:
    address = f"/api/migrations/{group_a.tenant_id}"
    answer = as_admin.post(f"{address}/tokens", {"group": str(group_a.pk)}, "json")
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert {line["device_uuid"] for line in lines} == {str(each) for each in imported.created}
    for line in lines:
        assert Device.objects.holding_token(line["device_token"]).filter(pk=line["device_uuid"])
    assert as_admin.post(f"{address}/tokens").content == b""
    logs_in(imported.created[0])
    counts = {"registered": 3, "issued": 3, "seen": 1}
    shown = caller(bob, Role.VIEWER).get(address).json()
    assert shown["progress"] == counts
    assert shown["groups"] == [
        {"uuid": str(group_a.pk), "name": "Acme Ltd / Laptops", "progress": counts}
    ]
    assert as_admin.get("/api/migrations").json()["results"][0]["progress"] == counts
    device = {"device": str(imported.created[1])}
    assert as_admin.post(f"{address}/undo", device, "json").json()["undone"] == 1
    assert as_admin.post(f"{address}/undo", device, "json").status_code == 409
    assert as_admin.post(f"{address}/undo").json() == {"undone": 1, "already_seen": 1}


def test_a_tenant_is_marked_as_migrated_and_reopened(
    as_admin: APIClient, imported: ImportReport, tenant_a: Tenant
) -> None:
    address = f"/api/migrations/{tenant_a.pk}"
    refused = as_admin.post(f"{address}/complete")
    assert (refused.status_code, refused.json()["type"]) == (409, "migration-refused")
    marked = as_admin.post(f"{address}/complete", {"despite_remaining": True}, "json")
    assert (marked.status_code, marked.json()["migrated_by_name"]) == (200, "alice")
    assert as_admin.post(f"{address}/reopen").json()["migrated_at"] is None


def test_another_tenants_group_and_device_are_unknown_ones(
    as_admin: APIClient, tenant_a: Tenant, device_b: Device
) -> None:
    address = f"/api/migrations/{tenant_a.pk}"
    for action, wrong in (
        ("tokens", {"group": str(device_b.group_id)}),
        ("undo", {"group": str(device_b.group_id)}),
        ("undo", {"device": str(device_b.pk)}),
    ):
        assert fields(as_admin.post(f"{address}/{action}", wrong, "json")) == list(wrong)
    assert as_admin.post(f"/api/migrations/{device_b.tenant_id}/tokens").status_code == 404
