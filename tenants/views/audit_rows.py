"""The audit's entries as its page shows them: things by name, technical detail folded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse

from natsbridge.identity.usernames import parse_username
from tenants.audit.rules.wording import in_words
from tenants.models import Action, ActorKind, AuditEntry, Credential, Role, Tenant, User
from tenants.templatetags.presentation import label

# Of use to programs, not to people.
TECHNICAL = {
    "bulk_id",
    "client",
    "command_id",
    "connection",
    "credential",
    "key",
    "server",
    "user",
    "uuid",
}
# Values that need no label.
PLAIN = {"command", "reason"}
KINDS = dict(Credential.Kind.choices)


@dataclass(frozen=True)
class Named:
    """A name, and the path of its page, empty where it has none."""

    text: str
    path: str = ""


@dataclass(frozen=True)
class Fact:
    """One detail of an entry. `label` is empty where none is needed; `at` replaces `text`."""

    label: str
    text: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Row:
    entry: AuditEntry
    tenant: Named | None
    who: Named
    target: Named | None
    facts: list[Fact]
    folded: list[Fact]


def rows(entries: Sequence[AuditEntry], person: User) -> list[Row]:
    """Return the rows as `person`, an admin of their tenants, sees them, in three queries."""
    names = _Names(entries, person)
    return [_row(entry, names) for entry in entries]


class _Names:
    """The names of the tenants and devices that these entries mention."""

    def __init__(self, entries: Sequence[AuditEntry], person: User) -> None:
        tenants = Tenant.objects.visible_to(person, Role.ADMIN, reading=True)
        self._tenants = dict(tenants.values_list("pk", "name"))
        wanted = set(_devices_in(entries))
        there = tenants.filter(devices__in=wanted)
        self._devices = dict(there.values_list("devices__pk", "devices__name"))
        entries_seen = AuditEntry.objects.visible_to(person, Role.ADMIN, reading=True)
        gone = entries_seen.filter(
            device_uuid__in=wanted - self._devices.keys(), action=Action.DEVICE_DELETED
        )
        named = gone.values_list("device_uuid", "target")
        self._gone = {uuid: target.removeprefix("device ") for uuid, target in named}

    def tenant(self, uuid: UUID | None) -> Named | None:
        name = self._tenants.get(uuid) if uuid else None
        return Named(name, reverse("tenant", args=[uuid])) if name else None

    def device(self, uuid: UUID, otherwise: str = "") -> Named:
        if uuid in self._devices:
            return Named(self._devices[uuid], reverse("device", args=[uuid]))
        name = self._gone.get(uuid) or otherwise.removeprefix("device ")
        if not name or parse_username(name):
            name = f"device {str(uuid)[:8]}…"
        return Named(name)


def _devices_in(entries: Iterable[AuditEntry]) -> Iterable[UUID]:
    for entry in entries:
        if entry.device_uuid:
            yield entry.device_uuid
        if (named := parse_username(entry.actor)) and named.device:
            yield named.device


def _row(entry: AuditEntry, names: _Names) -> Row:
    who, target = _who(entry, names), _target(entry, names)
    facts, folded = _facts(entry.detail)
    if entry.device_uuid:
        folded.append(Fact("Device", str(entry.device_uuid)))
    return Row(
        entry=entry,
        tenant=names.tenant(entry.tenant_uuid),
        who=who,
        target=None if target == who else target,
        facts=facts,
        folded=folded,
    )


def _who(entry: AuditEntry, names: _Names) -> Named:
    named = parse_username(entry.actor)
    if entry.actor_kind == ActorKind.DEVICE and named and named.device:
        return names.device(named.device)
    if entry.actor_kind == ActorKind.CREDENTIAL and named:
        return _own_credential(entry, names) or Named(entry.actor)
    # Of a refused login only the claimed name is known, and that is the target.
    claimed = entry.actor_kind == ActorKind.UNKNOWN and (named or entry.actor == entry.target)
    return Named((not claimed and entry.actor) or ActorKind(entry.actor_kind).label)


def _target(entry: AuditEntry, names: _Names) -> Named | None:
    if entry.device_uuid:
        return names.device(entry.device_uuid, entry.target)
    named = parse_username(entry.target)
    own = named and named.tenant and named.tenant == entry.tenant_uuid
    if own or entry.target == "the tenant's credential":
        return _own_credential(entry, names) or Named(entry.target)
    return Named(entry.target) if entry.target else None


def _own_credential(entry: AuditEntry, names: _Names) -> Named | None:
    tenant = names.tenant(entry.tenant_uuid)
    return Named("own credential", tenant.path) if tenant else None


def _facts(detail: dict[str, Any]) -> tuple[list[Fact], list[Fact]]:
    """Return what is shown, and what is folded away."""
    read, folded = [], []
    for name, value in detail.items():
        if name in TECHNICAL:
            folded.append(Fact(label(name), in_words(value)))
        elif value not in (False, None, ""):
            read.append(_fact(name, value))
    return read, folded


def _fact(name: str, value: Any) -> Fact:
    if value is True:
        return Fact("", label(name).lower())
    if isinstance(value, dict) and "name" in value:
        value = value["name"]
    if at := _moment(name, value):
        return Fact(label(name), at=at)
    if name == "kind":
        return Fact("", KINDS.get(value, in_words(value)))
    return Fact("" if name in PLAIN else label(name), in_words(value))


def _moment(name: str, value: Any) -> datetime | None:
    if not isinstance(value, str) or not name.endswith("_at"):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
