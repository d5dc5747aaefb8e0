"""Exports of a tenant by the API: requested, waited for, downloaded by its admins."""

import gzip
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from rest_framework.test import APIClient

from devices.models import Device
from tenants.export.exports import make_requested
from tenants.models import Action, AuditEntry, Tenant, User
from tests.support.people import authorization

EXPORTS = "/api/exports"


def caller(person: User) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(person))
    return api


def collected(answer: Any) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(collect)()


@pytest.mark.django_db(transaction=True)
def test_an_admin_requests_an_export_and_downloads_it(
    device_a: Device, tenant_a: Tenant, alice: User, bob: User, charlie: User
) -> None:
    api = caller(alice)
    body = {"tenant": str(tenant_a.pk)}
    requested = api.post(EXPORTS, body, "json")
    assert (requested.status_code, requested.json()["state"]) == (201, "requested")
    assert api.post(EXPORTS, body, "json").status_code == 409
    address = f"{EXPORTS}/{requested.json()['uuid']}"
    early = api.get(f"{address}/download")
    assert (early.status_code, early.json()["type"]) == (409, "export-refused")
    make_requested(lambda: False)
    row = api.get(address).json()
    assert (row["state"], row["is_downloadable"]) == ("ready", True)
    answer = api.get(f"{address}/download")
    content = collected(answer)
    assert answer["Content-Length"] == str(len(content)) == str(row["size_bytes"])
    assert answer["Cache-Control"] == "no-store"
    assert 'filename="acme-' in answer["Content-Disposition"]
    lines = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    assert lines[-1] == {"end": {"rows": row["row_count"]}}
    assert str(device_a.pk) in {line.get("pk") for line in lines}
    entry = AuditEntry.objects.get(action=Action.EXPORT_DOWNLOADED)
    assert (entry.actor, entry.tenant_uuid) == ("alice", tenant_a.pk)
    for other, status in ((bob, 403), (charlie, 404)):
        assert caller(other).get(f"{address}/download").status_code == status
    assert caller(charlie).get(EXPORTS).json()["results"] == []
