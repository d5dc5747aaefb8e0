"""Choose the devices of a bulk command, among those that a person may see: a tenant, a
group, an organisation, the fleet's filters, or a list."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from devices.commands.bulk import Targets
from devices.errors import CommandRefused
from devices.filters.devices import DeviceFilters
from devices.models import Device
from devices.models.device import DeviceQuerySet
from tenants.models import Group, Organisation, Role, Tenant, User


class UnknownTarget(CommandRefused):
    """The named target does not exist, or the person may not see it."""


class RoleMissing(CommandRefused):
    """The person may see the devices, but not command them."""


def of_group(person: User, uuid: UUID) -> Targets:
    """Return the devices of a group. Like all of these, raise UnknownTarget and RoleMissing."""
    found = Group.objects.visible_to(person).filter(pk=uuid).first()
    if found is None:
        raise UnknownTarget(f"There is no group {uuid}.")
    devices = Device.objects.visible_to(person).in_fleet().filter(group=found)
    _require_operator(person, found.tenant)
    return Targets(found.tenant, devices, f"group {found.name}", {"group": str(uuid)})


def of_tenant(person: User, uuid: UUID) -> Targets:
    found = Tenant.objects.visible_to(person).filter(pk=uuid).first()
    if found is None:
        raise UnknownTarget(f"There is no tenant {uuid}.")
    devices = Device.objects.visible_to(person).filter(tenant=found)
    _require_operator(person, found)
    return Targets(found, devices, f"all devices of {found.name}", {"tenant": str(uuid)})


def of_organisation(person: User, uuid: UUID) -> Targets:
    found = Organisation.objects.visible_to(person).filter(pk=uuid).first()
    if found is None:
        raise UnknownTarget(f"There is no organisation {uuid}.")
    devices = Device.objects.visible_to(person).in_fleet().filter(group__organisation=found)
    _require_operator(person, found.tenant)
    words = f"organisation {found.name}"
    return Targets(found.tenant, devices, words, {"organisation": str(uuid)})


def of_filter(person: User, asked: Mapping[str, Any]) -> Targets:
    """Return the devices that the fleet page shows for these filters. Raise CommandRefused if they
    belong to several tenants that the person may command."""
    wanted = {
        name: value if isinstance(value, list) else str(value)
        for name, value in asked.items()
        if value
    }
    filters = DeviceFilters.of(person, wanted)
    if filters.contradiction:
        raise CommandRefused(filters.contradiction)
    if filters.errors:
        wrong = "; ".join(f"{name}: {' '.join(why)}" for name, why in filters.errors.items())
        raise UnknownTarget(f"Not a valid value of the filter: {wrong}")
    words = _in_words(filters) if wanted else "all devices"
    return _of_one_tenant(person, filters.matching(), words, {"filter": wanted})


def of_devices(person: User, uuids: Collection[UUID]) -> Targets:
    devices = Device.objects.visible_to(person).filter(pk__in=uuids)
    unknown = set(uuids).difference(devices.values_list("pk", flat=True))
    if unknown:
        named = ", ".join(str(each) for each in sorted(unknown)[:3])
        raise UnknownTarget(f"There is no device {named}{' …' if len(unknown) > 3 else ''}.")
    words = f"{len(set(uuids))} devices chosen one by one"
    if len(set(uuids)) == 1:
        words = f"device {devices.get().name}"
    return _of_one_tenant(
        person, devices, words, {"devices": sorted(str(each) for each in set(uuids))}
    )


def _of_one_tenant(
    person: User, devices: DeviceQuerySet, words: str, selection: Mapping[str, Any]
) -> Targets:
    commanded = Tenant.objects.visible_to(person, Role.OPERATOR)
    tenants = list(commanded.filter(devices__in=devices.order_by()).distinct())
    if not tenants:
        if devices.exists():
            raise RoleMissing("Sending commands needs the role operator in the devices' tenant.")
        raise CommandRefused("No device matches.")
    if len(tenants) > 1:
        names = ", ".join(tenant.name for tenant in tenants[:5])
        raise CommandRefused(f"These are devices of several tenants ({names}); choose one.")
    elsewhere = devices.exclude(tenant=tenants[0]).count()
    return Targets(tenants[0], devices.filter(tenant=tenants[0]), words, selection, elsewhere)


def _require_operator(person: User, tenant: Tenant) -> None:
    if not Tenant.objects.visible_to(person, Role.OPERATOR).filter(pk=tenant.pk).exists():
        raise RoleMissing(f"Sending commands needs the role operator in {tenant.name}.")


def _in_words(filters: DeviceFilters) -> str:
    chosen = filters.chosen
    words = [
        chosen["status"].lower(),
        "archived" if chosen["archived"] == "true" else "",
        {"true": "revoked", "false": "unrevoked"}.get(chosen["revoked"], ""),
        "devices",
        f"of {chosen['tenant'].name}" if chosen["tenant"] else "",
        f"in organisation {chosen['organisation'].name}" if chosen["organisation"] else "",
        f"in group {chosen['group'].name}" if chosen["group"] else "",
        f"on {chosen['platform']}" if chosen["platform"] else "",
        f"with agent {chosen['agent_version']}" if chosen["agent_version"] else "",
        f"connected by {chosen['connection_type']}" if chosen["connection_type"] else "",
        f"tagged {' and '.join(filters.tags)}" if filters.tags else "",
        *(f"with {name} {value}" for name, value in filters.field_values),
        f"that match “{chosen['q']}”" if chosen["q"] else "",
    ]
    return " ".join(word for word in words if word)
