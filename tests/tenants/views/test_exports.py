"""The section of a tenant's page that exports the tenant."""

import pytest
from django.test import Client

from tenants.export.exports import make_requested
from tenants.models import Tenant, TenantExport
from tests.tenants.api.test_exports import collected


def path(tenant: Tenant, part: str = "") -> str:
    return f"/tenant/{tenant.pk}/export/{part}"


@pytest.mark.django_db(transaction=True)
def test_an_admin_requests_an_export_waits_and_downloads_it(
    as_alice: Client, tenant_a: Tenant
) -> None:
    page = f"/tenant/{tenant_a.pk}/"
    assert "Request an export" in as_alice.get(page).content.decode()
    for _ in range(2):
        assert as_alice.post(path(tenant_a))["Location"] == page
    export = TenantExport.objects.get()
    waiting = as_alice.get(path(tenant_a, "state/")).content.decode()
    assert "requested by alice" in waiting
    assert 'hx-trigger="every 2s"' in waiting
    assert as_alice.get(path(tenant_a, f"{export.pk}/")).status_code == 409
    make_requested(lambda: False)
    ready = as_alice.get(path(tenant_a, "state/")).content.decode()
    assert path(tenant_a, f"{export.pk}/") in ready
    assert "hx-trigger" not in ready
    answer = as_alice.get(path(tenant_a, f"{export.pk}/"))
    assert collected(answer)[:2] == b"\x1f\x8b"


def test_others_neither_request_nor_see_one(
    client: Client, as_bob: Client, as_charlie: Client, tenant_a: Tenant
) -> None:
    export = TenantExport.objects.create(tenant=tenant_a)
    own = path(tenant_a, f"{export.pk}/")
    for other, status in ((client, 302), (as_bob, 403), (as_charlie, 404)):
        assert other.post(path(tenant_a)).status_code == status
        assert other.get(path(tenant_a, "state/")).status_code == status
        assert other.get(own).status_code == status
    assert TenantExport.objects.count() == 1
