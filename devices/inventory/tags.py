"""Define a tenant's tags, and put them on its devices."""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Lower

from devices.errors import InventoryRefused
from devices.inventory.details import audit_device, push_after_commit
from devices.live import frames
from devices.models import Device, DeviceTag, Tag
from natsbridge.protocol.storable import storable
from tenants.audit.writer import record_action
from tenants.errors import NameTaken
from tenants.models import Action, Tenant, User

MOST_OF_A_TENANT = 500
MOST_ON_A_DEVICE = 50


@transaction.atomic
def create_tag(tenant: Tenant, name: str, *, by: User | None) -> Tag:
    """Raise NameTaken, or InventoryRefused if the tenant has too many."""
    if tenant.tags.count() >= MOST_OF_A_TENANT:
        raise InventoryRefused(f"A tenant has at most {MOST_OF_A_TENANT} tags; delete some first.")
    tag = Tag(tenant=tenant, name=name)
    _save(tag)
    _record(Action.TAG_CREATED, tag, by)
    return tag


@transaction.atomic
def rename_tag(tag: Tag, name: str, *, by: User | None) -> None:
    """Raise NameTaken."""
    known = Tag.objects.select_for_update().get(pk=tag.pk)
    tag.name = name
    if known.name == name:
        return
    _save(tag)
    _record(Action.TAG_RENAMED, known, by, name={"from": known.name, "to": name})
    _push_to_fleet(tag)


@transaction.atomic
def delete_tag(tag: Tag, *, by: User | None) -> None:
    """Delete the tag, and take it off all devices."""
    _record(Action.TAG_DELETED, tag, by, devices=tag.devices.count())
    _push_to_fleet(tag)
    tag.delete()


@transaction.atomic
def set_tags(device: Device, names: Collection[str], *, by: User | None) -> None:
    """Leave exactly these tags on the device. Raise InventoryRefused for a name that is not one of
    the tenant's tags."""
    known = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    wanted = {tag.pk: tag for tag in _find(known.tenant_id, names)}
    before = {tag.pk: tag for tag in known.tags.all()}
    added = [tag for key, tag in wanted.items() if key not in before]
    removed = [tag for key, tag in before.items() if key not in wanted]
    if not added and not removed:
        return
    DeviceTag.objects.filter(device=known, tag__in=removed).delete()
    DeviceTag.objects.bulk_create(
        DeviceTag(tenant_id=known.tenant_id, device=known, tag=tag) for tag in added
    )
    changes = {"added": sorted(map(str, added)), "removed": sorted(map(str, removed))}
    detail = {name: changed for name, changed in changes.items() if changed}
    audit_device(Action.DEVICE_TAGGED, known, by, **detail)
    push_after_commit(known)


def _find(tenant: UUID, names: Collection[str]) -> Sequence[Tag]:
    wanted = {storable(name).strip().lower(): storable(name) for name in names}
    if len(wanted) > MOST_ON_A_DEVICE:
        raise InventoryRefused(f"A device has at most {MOST_ON_A_DEVICE} tags.")
    # Locked, so that none is deleted before it is on the device.
    rows = Tag.objects.select_for_update(no_key=True).annotate(lowered=Lower("name"))
    found = list(rows.filter(tenant=tenant, lowered__in=wanted).order_by("pk"))
    unknown = set(wanted) - {tag.lowered for tag in found}
    if unknown:
        named = ", ".join(f'"{wanted[name]}"' for name in sorted(unknown)[:3])
        raise InventoryRefused(f"The tenant has no tag {named}; an admin can create it.")
    return found


def _save(tag: Tag) -> None:
    try:
        with transaction.atomic():
            tag.save()
    except IntegrityError as error:
        raise NameTaken(f'{tag.tenant.name} has a tag "{tag.name}" already.') from error


def _push_to_fleet(tag: Tag) -> None:
    transaction.on_commit(lambda: frames.push_fleet(tag.tenant_id))


def _record(action: Action, tag: Tag, by: User | None, **detail: object) -> None:
    record_action(
        action,
        tenant=tag.tenant_id,
        by=by,
        target=f"tag {tag.name}",
        detail={"uuid": str(tag.pk), **detail},
    )
