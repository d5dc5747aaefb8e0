"""The tenants, people and devices that call every endpoint, and what they ask it about."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Permission
from django.db import transaction
from django.utils import timezone
from rest_framework.test import APIClient

from devices.commands import bulk, issue
from devices.commands.bulk import Targets
from devices.inventory.custom_fields import create_field
from devices.inventory.notes import add_note
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag
from devices.models import Device
from devices.onboarding import rules
from devices.onboarding.imports import import_devices
from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.subscriber import status as status_row
from tenants.actions.keys import create_api_token, create_enrollment_key
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_tenant
from tenants.broker.accounts import ensure_platform_keys
from tenants.credentials.issue import issue_tenant_credential
from tenants.export.exports import request_export
from tenants.models import AuditEntry, Credential, Group, Membership, Role, TenantExport, User
from tests.suites.permissions.table import BODIES, CALLERS
from tests.support.people import authorization, enrol, person


@dataclass
class World:
    """The headers of each caller, and the id of each thing by the part of the address before it."""

    callers: dict[str, dict[str, str]]
    ids: dict[str, str]
    people: dict[str, User]

    def ask(self, endpoint: str, caller: str) -> int:
        """Return the status with which the endpoint answers the caller; nothing is changed."""
        return self.send(endpoint, self.callers[caller])

    def send(self, endpoint: str, headers: dict[str, str], client: Any = None) -> int:
        method, path = endpoint.format(**self.ids_in(endpoint)).split()
        body = {
            name: value.format(**self.ids) if isinstance(value, str) else value
            for name, value in BODIES.get(endpoint, {}).items()
        }
        with transaction.atomic():
            sent: dict[str, Any] = {"format": "json"} if method != "GET" else {}
            sender = getattr(client or APIClient(), method.lower())
            answer = sender(path, body, **sent, **headers)
            transaction.set_rollback(True)
        return int(answer.status_code)

    def ids_in(self, endpoint: str) -> dict[str, str]:
        """Return the ids by their names in this address: `commands` are of two kinds."""
        one = {"commands": self.ids["command"]} if " /api/commands" in endpoint else {}
        return self.ids | one


def build(group_a: Group, group_b: Group) -> World:
    ensure_platform_keys()
    status_row.beat("test", started_at=timezone.now(), connected=True, details={})
    # However slow the machine is, it does not become stale.
    SubscriberStatus.objects.update(beat_at=timezone.now() + timedelta(hours=1))
    tenant = group_a.tenant
    people = {
        "viewer": person("viewer", tenant, Role.VIEWER),
        "operator": person("operator", tenant, Role.OPERATOR),
        "admin": person("admin", tenant, Role.ADMIN),
        "outsider": person("outsider", group_b.tenant, Role.ADMIN),
        "staff": User.objects.create_user("staff", is_staff=True),
        "superuser": User.objects.create_superuser("superuser"),
    }
    staff_may = ("change_tenant", "change_deadletter", "view_subscriberstatus")
    people["staff"].user_permissions.set(Permission.objects.filter(codename__in=staff_may))
    device, sibling = enrol(group_a, "device"), enrol(group_a, "sibling")
    callers = {
        "nobody": {},
        "device": device.authorization,
        "sibling": sibling.authorization,
        **{name: authorization(each) for name, each in people.items()},
    }
    assert tuple(callers) == CALLERS
    admin = people["admin"]
    command = issue.issue(device.device, "ping", {}, by=admin)
    targets = Targets(tenant, Device.objects.filter(pk=device.device.pk), "one device", {})
    sent, _ = bulk.issue(targets, "ping", {}, by=admin)
    credential = issue_tenant_credential(tenant, kind=Credential.Kind.PASSWORD, by=admin)
    dead_letter = DeadLetter.objects.create(
        received_at=timezone.now(), subject="tenant.x", body=b"{}", reason="malformed"
    )
    read = rules.read_items([{"uuid": str(uuid4()), "name": "imported"}])
    imported = import_devices(tenant, read, group=group_a, by=admin)
    assert imported.record
    export = request_export(tenant, by=admin)
    later = timezone.now() + timedelta(hours=1)
    made = {"state": TenantExport.State.READY, "finished_at": timezone.now(), "expires_at": later}
    TenantExport.objects.update(**made)
    tag = create_tag(tenant, "server", by=admin)
    field = create_field(tenant, "Price", FieldType.NUMBER, by=admin)
    note = add_note(device.device, "The key is at the reception.", by=people["viewer"])
    key, plain = create_enrollment_key(group_a, name="office", created_by=admin)
    # Somebody whom the admin knows from another tenant.
    newcomer, second = User.objects.create_user("newcomer"), create_tenant(name="Second")
    set_membership(newcomer, second, Role.VIEWER)
    set_membership(admin, second, Role.ADMIN)
    token, _ = create_api_token(admin, name="own", role=Role.VIEWER, expires_at=None)
    ids = {
        "agent": device.device.pk,
        "bulk-commands": sent.uuid,
        "command": command.uuid,
        "commands": sent.uuid,
        "credentials": credential.credential.pk,
        "custom-fields": field.pk,
        "dead-letters": dead_letter.pk,
        "device": device.device.pk,
        "devices": device.device.pk,
        "device-imports": imported.record.pk,
        "exports": export.pk,
        "groups": group_a.pk,
        "migrations": tenant.pk,
        "notes": note.pk,
        "organisations": group_a.organisation_id,
        "subscribers": "test",
        "tags": tag.pk,
        "tenant": tenant.pk,
        "audit": AuditEntry.objects.filter(tenant_uuid=tenant.pk).latest("id").pk,
        "enrolment-keys": key.pk,
        "enrolment_key": plain,
        "memberships": Membership.objects.get(user=people["viewer"]).pk,
        "tenants": tenant.pk,
        "tokens": token.pk,
    }
    return World(callers, {name: str(pk) for name, pk in ids.items()}, people)
