"""Exports: what is in them, how they are made, restarted and removed."""

import gzip
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.commands.issue import issue
from devices.models import Device
from tenants.actions.keys import create_enrollment_key
from tenants.credentials.issue import issue_device_password
from tenants.errors import ExportRefused
from tenants.export import exports
from tenants.export.lines import export_lines
from tenants.export.tables import tables
from tenants.models import Action, AuditEntry, BrokerKey, ExportChunk, Tenant, TenantExport, User
from tests.support.people import Enrolled, enrol

State = TenantExport.State


def read(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(lines).decode().splitlines()]


def file_of(export: TenantExport) -> bytes:
    chunks = ExportChunk.objects.filter(export=export).order_by("number")
    return gzip.decompress(b"".join(bytes(chunk.data) for chunk in chunks))


def never() -> bool:
    return False


@pytest.fixture
def anna(group_a: Any) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def test_an_export_has_what_is_the_tenants_and_nothing_else(
    anna: Enrolled, device_b: Device, alice: User, charlie: User, tenant_a: Tenant
) -> None:
    issue(anna.device, "ping", {"path": "/ä\u202e"}, by=alice)
    first, *rows, last = read(export_lines(tenant_a))
    assert first["export"]["name"] == "Acme"
    assert last == {"end": {"rows": len(rows)}}
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    (device,) = by_model["devices.device"]
    assert (device["pk"], device["fields"]["name"]) == (str(anna.device.pk), "anna-laptop")
    assert device["fields"]["group"] == str(anna.device.group_id)
    (command,) = by_model["devices.command"]
    assert command["fields"]["parameters"] == {"path": "/ä\u202e"}
    (member,) = by_model["tenants.membership"]
    assert member["fields"]["username"] == "alice"
    text = b"".join(export_lines(tenant_a)).decode()
    for theirs in (str(device_b.pk), device_b.name, "Beta", "charlie"):
        assert theirs not in text
    assert "\u202e" not in text, "marks of direction are escaped"


def test_no_secret_of_a_tenant_is_in_its_export(
    anna: Enrolled, alice: User, tenant_a: Tenant
) -> None:
    _, key = create_enrollment_key(anna.device.group, name="office")
    password = issue_device_password(tenant_a.pk, anna.device.pk).secret
    device = Device.objects.get(pk=anna.device.pk)
    text = b"".join(export_lines(tenant_a)).decode()
    kept = BrokerKey.objects.filter(tenant=tenant_a)
    seeds = [part for row in kept for part in (row.seed, row.seed_encrypted)]
    assert seeds
    secrets = [key, key[:12], password, anna.token, device.token_digest, anna.jwt, *seeds]
    assert [secret for secret in secrets if str(secret) in text] == []


def test_its_statements_do_not_grow_with_the_rows(
    group_a: Any, tenant_a: Tenant, django_assert_num_queries: Any
) -> None:
    for count in range(3):
        enrol(group_a, f"device-{count}")
    with django_assert_num_queries(len(tables())):
        list(export_lines(tenant_a))


def test_one_export_of_a_tenant_is_made_at_a_time(
    tenant_a: Tenant, tenant_b: Tenant, alice: User
) -> None:
    export = exports.request_export(tenant_a, by=alice)
    assert (export.state, export.requested_by_name) == (State.REQUESTED, "alice")
    with pytest.raises(ExportRefused):
        exports.request_export(tenant_a, by=alice)
    exports.request_export(tenant_b, by=None)
    entry = AuditEntry.objects.get(action=Action.EXPORT_REQUESTED, actor="alice")
    assert entry.tenant_uuid == tenant_a.pk


@pytest.mark.django_db(transaction=True)
def test_it_is_made_in_pieces_takes_the_place_of_the_last_one_and_expires(
    tenant_a: Tenant, anna: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "CHUNK_BYTES", 1)
    before = exports.request_export(tenant_a, by=None)
    assert exports.make_requested(never) == 1
    export = exports.request_export(tenant_a, by=None)
    assert exports.make_requested(never) == 1
    assert not TenantExport.objects.filter(pk=before.pk).exists()
    export.refresh_from_db()
    assert (export.state, export.is_downloadable) == (State.READY, True)
    assert ExportChunk.objects.filter(export=export).count() > 1
    found = read([file_of(export)])
    assert found[-1] == {"end": {"rows": export.row_count}}
    assert len(found) == export.row_count + 2
    sizes = [len(bytes(chunk.data)) for chunk in export.chunks.all()]
    assert sum(sizes) == export.size_bytes
    TenantExport.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    export.refresh_from_db()
    assert not export.is_downloadable
    assert exports.make_requested(never) == 0
    assert not ExportChunk.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_was_interrupted_begins_again_and_is_given_up_after_some_attempts(
    tenant_a: Tenant, anna: Enrolled, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = exports.request_export(tenant_a, by=None)
    monkeypatch.setattr(exports, "CHUNK_BYTES", 1)
    monkeypatch.setattr(exports, "LINES_AT_A_TIME", 2)
    answers = iter([False, False, True])
    assert exports.make_requested(lambda: next(answers)) == 0
    export.refresh_from_db()
    assert (export.state, export.attempts) == (State.RUNNING, 0)
    assert not ExportChunk.objects.exists(), "the pieces of the first attempt are gone"
    # Its process was killed.
    TenantExport.objects.update(attempts=exports.MOST_ATTEMPTS - 1)
    assert exports.make_requested(never) == 1
    TenantExport.objects.update(state=State.RUNNING, expires_at=None)
    assert exports.make_requested(never) == 0
    export.refresh_from_db()
    assert (export.state, export.error) == (State.FAILED, exports.GIVEN_UP)
    export = exports.request_export(tenant_a, by=None)
    settings.EXPORT_MAX_BYTES = 10
    assert exports.make_requested(never) == 0
    export.refresh_from_db()
    assert export.error.startswith("It is larger than 10 bytes")
