"""What it takes to bring over a fleet of 5,000 devices. Run by `make bench`; it judges nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connection
from rest_framework.test import APIClient

from devices.models import Device
from devices.onboarding import rules, upgrades
from tenants.actions.tenants import create_group
from tenants.export.exports import make_requested, request_export
from tenants.models import Group, TenantExport, User
from tests.devices.onboarding.conftest import lines_of, logs_in
from tests.support.people import authorization

DEVICES = 5_000
LOGGED_IN = 50

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    write: Callable[[str], None] = request.config.get_terminal_writer().line
    return lambda text: write(f"  {text}")


@contextmanager
def measured(say: Callable[[str], None], what: str) -> Iterator[None]:
    count = 0

    def counting(execute: Callable[..., object], *statement: object) -> object:
        nonlocal count
        count += 1
        return execute(*statement)

    started = time.perf_counter()
    with connection.execute_wrapper(counting):
        yield
    say(f"{what:<60} {time.perf_counter() - started:>7.2f} s {count:>5} statements")


def test_a_fleet_of_5000_devices_comes_over(
    group_a: Group, alice: User, api: APIClient, say: Callable[[str], None]
) -> None:
    api.credentials(**authorization(alice))
    other = create_group(group_a.organisation, name="Servers")
    content = lines_of([uuid4() for _ in range(DEVICES // 2)], group="Laptops")
    content += (
        b"\n" + lines_of([uuid4() for _ in range(DEVICES // 2)], group="Servers").split(b"\n", 1)[1]
    )
    say(f"{DEVICES:,} devices, a file of {len(content):,} bytes")
    with measured(say, "read the file, in memory"):
        assert len(rules.read_csv(content).rows) == DEVICES
    path = f"/api/device-imports?tenant={group_a.tenant_id}"
    for what, query, status in (
        ("look at the file (dry run), by HTTP", "&dry_run=true", 200),
        ("import, by HTTP", "", 201),
        ("import the same file again, by HTTP", "", 200),
    ):
        with measured(say, what):
            assert api.post(path + query, content, content_type="text/csv").status_code == status
    address = f"/api/migrations/{group_a.tenant_id}"
    for group in (group_a, other):
        with measured(say, f"issue {DEVICES // 2:,} tokens to a group, by HTTP"):
            answer = api.post(f"{address}/tokens", {"group": str(group.pk)}, "json")
        assert answer.content.count(b"\n") == DEVICES // 2
    for device in Device.objects.order_by("pk")[:LOGGED_IN]:
        logs_in(device.pk)
    with measured(say, "progress, by HTTP, tenant and groups"):
        found = api.get(address).json()["progress"]
    assert found == {"registered": DEVICES, "issued": DEVICES, "seen": LOGGED_IN}
    with measured(say, "undo the upgrade of the tenant, by HTTP"):
        undone = api.post(f"{address}/undo").json()
    assert undone == {"undone": DEVICES - LOGGED_IN, "already_seen": LOGGED_IN}
    with measured(say, "issue tokens to all again"):
        upgrades.issue_tokens(group_a.tenant, None, by=alice)
    request_export(group_a.tenant, by=alice)
    with measured(say, "make the tenant's export"):
        make_requested(lambda: False)
    export = TenantExport.objects.get()
    say(f"  of {export.row_count:,} rows, {export.size_bytes:,} bytes")
    record = api.get("/api/device-imports").json()["results"][0]
    with measured(say, "undo the import, by HTTP"):
        undone = api.post(f"/api/device-imports/{record['uuid']}/undo").json()
    assert undone == {"deleted": DEVICES - LOGGED_IN, "kept": LOGGED_IN}
