"""Define a tenant's custom fields, and set their values on its devices."""

from collections.abc import Mapping, Sequence

from django.db import IntegrityError, transaction
from django.db.models import F, Func, JSONField, Q, TextField, Value
from django.db.models.functions import Cast, Lower

from devices.errors import InventoryRefused
from devices.inventory.details import audit_device, push_after_commit
from devices.inventory.rules import FieldType, UnfitValue, read_value
from devices.models import CustomField, Device
from natsbridge.protocol.storable import storable
from tenants.audit.writer import record_action
from tenants.errors import NameTaken, StillInUse
from tenants.models import Action, Tenant, User

MOST_OF_A_TENANT = 50
MOST_CHOICES = 100


@transaction.atomic
def create_field(
    tenant: Tenant, name: str, kind: FieldType, choices: Sequence[str] = (), *, by: User | None
) -> CustomField:
    """Raise NameTaken, or InventoryRefused with what is wrong."""
    if tenant.custom_fields.count() >= MOST_OF_A_TENANT:
        raise InventoryRefused(
            f"A tenant has at most {MOST_OF_A_TENANT} custom fields; delete some first."
        )
    field = CustomField(tenant=tenant, name=name, type=kind, choices=list(choices))
    _save(field)
    _record(Action.FIELD_CREATED, field, by, type=field.type)
    return field


@transaction.atomic
def change_field(
    field: CustomField,
    *,
    name: str | None = None,
    choices: Sequence[str] | None = None,
    by: User | None,
) -> None:
    """Rename the field, or change its choices. Raise NameTaken; StillInUse if a device has a choice
    that is to go; InventoryRefused."""
    known = CustomField.objects.select_for_update().get(pk=field.pk)
    field.name = known.name if name is None else name
    field.choices = known.choices if choices is None else list(choices)
    changes = {
        change: {"from": getattr(known, change), "to": getattr(field, change)}
        for change in ("name", "choices")
        if getattr(known, change) != getattr(field, change)
    }
    if not changes:
        return
    _refuse_choices_in_use(known, set(known.choices) - set(field.choices))
    _save(field)
    _record(Action.FIELD_CHANGED, known, by, **changes)


@transaction.atomic
def delete_field(field: CustomField, *, by: User | None) -> None:
    """Delete the field and its values."""
    CustomField.objects.select_for_update().get(pk=field.pk)
    key = Cast(Value(field.key), TextField())
    without = Func(
        F("custom_values"),
        key,
        template="(%(expressions)s)",
        arg_joiner=" - ",
        output_field=JSONField(),
    )
    having = Device.objects.filter(tenant=field.tenant_id, custom_values__has_key=field.key)
    _record(Action.FIELD_DELETED, field, by, devices=having.update(custom_values=without))
    field.delete()


@transaction.atomic
def set_values(device: Device, values: Mapping[str, object], *, by: User | None) -> None:
    """Set the named fields; None and an empty text remove a value, and other fields stay.

    Raise InventoryRefused, naming the field.
    """
    # The fields first, as `delete_field` locks them.
    fields = _find(device, values)
    row = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    after = dict(row.custom_values)
    changes = {}
    for field, given in fields:
        before = after.pop(field.key, None)
        if given is not None and given != "":
            after[field.key] = _read(field, given)
        if after.get(field.key) != before:
            changes[field.name] = {"from": before, "to": after.get(field.key)}
    device.custom_values = after
    if changes:
        device.save(update_fields=["custom_values"])
        audit_device(Action.DEVICE_FIELDS, row, by, fields=changes)
        push_after_commit(device)


def _find(device: Device, values: Mapping[str, object]) -> list[tuple[CustomField, object]]:
    wanted = {storable(name).strip().lower(): storable(name) for name in values}
    given = {storable(name).strip().lower(): value for name, value in values.items()}
    rows = CustomField.objects.select_for_update(no_key=True).annotate(lowered=Lower("name"))
    found = list(rows.filter(tenant=device.tenant_id, lowered__in=wanted).order_by("pk"))
    unknown = set(wanted) - {field.lowered for field in found}
    if unknown:
        named = ", ".join(f'"{wanted[name]}"' for name in sorted(unknown)[:3])
        raise InventoryRefused(f"The tenant has no custom field {named}; an admin can create it.")
    return [(field, given[field.lowered]) for field in found]


def _read(field: CustomField, given: object) -> str | int | float:
    try:
        return read_value(FieldType(field.type), field.choices, given)
    except UnfitValue as error:
        raise InventoryRefused(f"{field.name}: {error}") from error


def _refuse_choices_in_use(field: CustomField, gone: set[str]) -> None:
    held = Q(pk=None)
    for choice in gone:
        held |= Q(custom_values__contains={field.key: choice})
    count = Device.objects.filter(held, tenant=field.tenant_id).count() if gone else 0
    if count:
        raise StillInUse(
            f"{count} devices have one of: {', '.join(sorted(gone))}. Change these devices first."
        )


def _save(field: CustomField) -> None:
    _refuse_unfit(field)
    try:
        with transaction.atomic():
            field.save()
    except IntegrityError as error:
        message = f'{field.tenant.name} has a custom field "{field.name}" already.'
        raise NameTaken(message) from error


def _refuse_unfit(field: CustomField) -> None:
    if "__" in field.name:
        raise InventoryRefused(f'"{field.name}" has two underscores, which separate filters.')
    lowered = {choice.strip().casefold() for choice in field.choices}
    if field.type != FieldType.CHOICE and field.choices:
        raise InventoryRefused(f"A field of the type {field.type} has no choices.")
    if field.type == FieldType.CHOICE and not field.choices:
        raise InventoryRefused("Name at least one choice.")
    if len(field.choices) > MOST_CHOICES:
        raise InventoryRefused(f"At most {MOST_CHOICES} choices.")
    if "" in lowered or len(lowered) < len(field.choices):
        raise InventoryRefused("Each choice needs a text of its own.")


def _record(action: Action, field: CustomField, by: User | None, **detail: object) -> None:
    record_action(
        action,
        tenant=field.tenant_id,
        by=by,
        target=f"custom field {field.name}",
        detail={"uuid": str(field.pk), **detail},
    )
