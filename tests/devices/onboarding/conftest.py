"""A fleet that was registered elsewhere, and what its agents would do."""

from collections.abc import Callable, Iterable
from uuid import UUID, uuid4

import pytest

from devices.models import Device
from devices.onboarding import rules
from devices.onboarding.imports import ImportReport, import_devices
from tenants.credentials.issue import issue_device_password
from tenants.credentials.use import record_password_uses
from tenants.models import Group, User

Import = Callable[..., ImportReport]


def lines_of(uuids: Iterable[object], **columns: str) -> bytes:
    """A CSV of these devices, with the same further columns in each row."""
    head = ",".join(["uuid", "name", *columns])
    rows = [",".join([str(uuid), f"device-{uuid}", *columns.values()]) for uuid in uuids]
    return "\n".join([head, *rows]).encode()


def logs_in(device: UUID) -> None:
    """Its agent logs in to the broker with a password of its own."""
    issued = issue_device_password(Device.objects.get(pk=device).tenant_id, device)
    record_password_uses([issued.credential])


@pytest.fixture
def imported(group_a: Group, alice: User) -> ImportReport:
    """Three devices of group A that have been imported."""
    read = rules.read_csv(lines_of([uuid4() for _ in range(3)]))
    return import_devices(group_a.tenant, read, group=group_a, by=alice)
