"""What stands in older rows, or what a device says of itself, on pages and in exports."""

import json

import pytest
from django.contrib.admin import site
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.commands.issue import issue
from devices.models import Command, Connectivity, Device
from natsbridge.protocol.escaping import escape_marks
from tenants.models import AuditEntry, Group, Organisation, Tenant, User
from tests.tenants.api.nats.test_audit import content

MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NAME = f"a{MARKS}b"


@pytest.fixture
def as_sam(device_a: Device, alice: User) -> Client:
    """A browser of somebody who sees everything, where everything is called so."""
    sam = User.objects.create_superuser("sam", first_name=NAME, last_name=NAME)
    for model in (Tenant, Organisation, Group, Device):
        model._default_manager.update(name=NAME)
    information = {"system_info": {"hostname": NAME, NAME: NAME}, "status": {NAME: NAME}}
    Connectivity.objects.filter(device=device_a).update(
        agent_version=NAME,
        last_seen_online=timezone.now(),
        connection_info=information,
        capabilities={"commands": [{"name": "ping", "description": NAME, "parameters": []}]},
    )
    issue(device_a, "ping", {"text": NAME}, by=alice)
    Command.objects.update(result={NAME: [NAME]}, error=NAME)
    AuditEntry.objects.update(target=NAME, actor=NAME, detail={"reason": NAME})
    browser = Client()
    browser.force_login(sam)
    return browser


def pages(device: Device) -> list[str]:
    command = Command.objects.get()
    own, tenant = f"/devices/{device.pk}/", f"/tenant/{device.tenant_id}/"
    rows: list[Model] = [
        device,
        device.tenant,
        device.group,
        command,
        *AuditEntry.objects.all()[:1],
    ]
    names = [f"admin:{model._meta.app_label}_{model._meta.model_name}" for model in site._registry]
    row_pages = [
        reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        for row in rows
        if type(row) in site._registry
    ]
    return [
        *("/", "/audit/", "/devices/add/", "/commands/", "/commands/new/?target=filter"),
        *(own, f"{own}commands/{command.uuid}/", f"{own}credentials/", f"{own}status/", tenant),
        *(reverse(f"{name}_changelist") for name in names),
        *row_pages,
    ]


def test_no_page_holds_a_mark_that_turns_its_text_around(as_sam: Client, device_a: Device) -> None:
    spelt = 0
    for path in pages(device_a):
        body = as_sam.get(path).content.decode()
        assert not set(body) & set(MARKS), path
        spelt += body.count(r"\u202e")
    assert spelt > 20


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_no_export_does_either(as_sam: Client, device_a: Device, format: str) -> None:
    path = reverse("admin:tenants_auditentry_export", args=[format])
    body = content(as_sam.get(path))
    assert not set(body) & set(MARKS)
    assert r"\u202e" in body
    if format == "jsonl":
        # It is still the same text to a program.
        assert json.loads(body.splitlines()[0])["target"] == NAME


def test_every_mark_is_spelt_out_and_nothing_else() -> None:
    other = "Zoë שלום می‌خواهم 東京 🙂 \u2028"
    assert escape_marks(other.encode()).decode() == other
    assert escape_marks(MARKS.encode()).decode().encode().decode("unicode_escape") == MARKS
