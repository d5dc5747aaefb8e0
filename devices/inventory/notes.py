"""Write notes about devices, and delete them. The audit says who did, and not what is in them."""

from django.db import transaction

from devices.inventory.details import audit_device, push_after_commit
from devices.models import Device, Note
from tenants.models import Action, User


@transaction.atomic
def add_note(device: Device, text: str, *, by: User) -> Note:
    note = Note.objects.create(
        device=device, text=text, author=by, author_name=by.get_full_name() or by.get_username()
    )
    audit_device(Action.NOTE_ADDED, device, by, note=str(note.pk))
    push_after_commit(device)
    return note


@transaction.atomic
def delete_note(note: Note, *, by: User) -> None:
    detail = {"note": str(note.pk), "author": note.author_name}
    audit_device(Action.NOTE_DELETED, note.device, by, **detail)
    push_after_commit(note.device)
    note.delete()
