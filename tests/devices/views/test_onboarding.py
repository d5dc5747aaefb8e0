"""The page on which an admin brings over a fleet: import, tokens, progress, undo."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from devices.models import Device
from devices.onboarding.imports import ImportReport
from devices.onboarding.upgrades import Progress, issue_tokens, progress
from tenants.models import Action, AuditEntry, Group, Tenant, User
from tests.devices.onboarding.conftest import imported, lines_of, logs_in
from tests.support.people import shown

__all__ = ["imported"]


def path(tenant: Tenant, part: str = "") -> str:
    return f"/tenant/{tenant.pk}/migration/{part}"


def uploaded(client: Client, group: Group, button: str, *uuids: object) -> Any:
    file = SimpleUploadedFile("fleet.csv", lines_of(uuids), "text/csv")
    body = {"file": file, "group": group.pk, button: ""}
    return client.post(path(group.tenant), body)


def test_a_file_is_checked_and_imported(as_alice: Client, group_a: Group) -> None:
    known = uuid4()
    checked = uploaded(as_alice, group_a, "check", known)
    assert (checked.status_code, b"1 new, 0 already there" in checked.content) == (200, True)
    assert not Device.objects.exists()
    for button, status in (("check", 422), ("import", 409)):
        wrong = uploaded(as_alice, group_a, button, known, "nonsense")
        assert wrong.status_code == status
        assert "&quot;nonsense&quot; is not a valid UUID." in wrong.content.decode()
    assert not Device.objects.exists()
    assert uploaded(as_alice, group_a, "import", known)["Location"] == path(group_a.tenant)
    assert Device.objects.get().pk == known
    assert uploaded(as_alice, group_a, "import", known).status_code == 200
    page = as_alice.get(path(group_a.tenant)).content.decode()
    assert "Acme Ltd / Laptops" in page


def test_tokens_are_offered_once_and_the_progress_is_shown(
    as_alice: Client, imported: ImportReport, tenant_a: Tenant
) -> None:
    posted = as_alice.post(path(tenant_a, "tokens/"), {"group": ""})
    issued = shown(as_alice, posted)
    assert "no-store" in issued.headers["Cache-Control"]
    lines = [json.loads(line) for line in issued.context["secret"].splitlines()]
    assert {line["device_uuid"] for line in lines} == {str(each) for each in imported.created}
    assert Device.objects.holding_token(lines[0]["device_token"]).exists()
    assert as_alice.get(posted["Location"]).status_code == 410
    assert AuditEntry.objects.filter(action=Action.SECRET_READ).count() == 1
    again = as_alice.post(path(tenant_a, "tokens/"), {"group": ""})
    assert (again.status_code, b"hold a token already" in again.content) == (409, True)
    logs_in(imported.created[0])
    fragment = as_alice.get(path(tenant_a), HTTP_HX_REQUEST="true").content.decode()
    assert "of 3 devices from elsewhere" in fragment
    assert "<html" not in fragment


def test_an_upgrade_and_an_import_are_undone_after_a_question(
    as_alice: Client, imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    issue_tokens(tenant_a, None, by=alice)
    logs_in(imported.created[0])
    assert b"Undo the upgrade of Acme" in as_alice.get(path(tenant_a, "undo/")).content
    assert as_alice.post(path(tenant_a, "undo/"), {"group": ""}).status_code == 302
    assert progress(tenant_a) == Progress(3, 1, 1)
    assert imported.record
    address = path(tenant_a, f"imports/{imported.record.pk}/undo/")
    assert b"the import of 3 devices" in as_alice.get(address).content
    assert as_alice.post(address).status_code == 302
    assert Device.objects.get().pk == imported.created[0]


def test_a_tenant_is_marked_and_reopened(
    as_alice: Client, imported: ImportReport, tenant_a: Tenant
) -> None:
    refused = as_alice.post(path(tenant_a, "complete/"))
    assert (refused.status_code, b"have not logged in" in refused.content) == (409, True)
    assert (
        as_alice.post(path(tenant_a, "complete/"), {"despite_remaining": "on"}).status_code == 302
    )
    page = as_alice.get(path(tenant_a)).content.decode()
    assert "marked by alice" in page
    assert "Import the devices" not in page
    assert as_alice.post(path(tenant_a, "reopen/")).status_code == 302
    assert "Import the devices" in as_alice.get(path(tenant_a)).content.decode()


@pytest.mark.parametrize(
    "part", ["", "tokens/", "undo/", "complete/", "reopen/", "imports/{}/undo/"]
)
def test_it_is_for_admins_of_the_tenant(
    client: Client,
    as_bob: Client,
    as_charlie: Client,
    imported: ImportReport,
    tenant_a: Tenant,
    part: str,
) -> None:
    assert imported.record
    address = path(tenant_a, part.format(imported.record.pk))
    assert client.get(address).status_code in (302, 405)
    for other, status in ((as_bob, 403), (as_charlie, 404)):
        assert other.post(address).status_code == status
        if part != "tokens/":
            assert other.get(address).status_code == status
    assert Device.objects.count() == 3
