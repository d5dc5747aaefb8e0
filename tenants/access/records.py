"""Record in the audit what was refused, and what staff read of a customer's data.

An entry belongs to a tenant only where its admins may know of it. What somebody was refused in a
tenant of their own, and what staff read, is the tenant's. A request for an object of another
tenant is the platform's, for the eyes of staff: the owner must not learn who else is a customer,
and the tenant of the one who asked must not learn from its own audit that the object exists. So are
requests of strangers, whose address could be a customer's too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tenants.access.coalesced import NOBODY, record_coalesced
from tenants.audit.owners import Owned
from tenants.audit.writer import Actor, AuditEvent
from tenants.models import Action, ActorKind, User
from tenants.origin import current_origin, network_name

# A row tells of one of them, the newest, however many were asked for.
OBJECT = ("device", "target")


@dataclass(frozen=True)
class Caller:
    """The one who asks, and the tenants that they belong to. A device knows of itself alone."""

    actor: Actor = NOBODY
    tenants: frozenset[UUID] = frozenset()
    device: UUID | None = None

    def belongs_with(self, owned: Owned) -> bool:
        """Return whether they may know of the object."""
        return owned.device == self.device if self.device else owned.tenant in self.tenants


STRANGER = Caller()


def person_caller(person: User) -> Caller:
    actor = Actor(ActorKind.PERSON, person.get_username(), str(person.pk))
    return Caller(actor, person.own_tenants)


@dataclass(frozen=True)
class Asked:
    """What was asked for: method and route, as "GET /devices/<uuid:device_uuid>/", and how it was
    answered. `named` are the objects that the request names, as far as they exist."""

    request: str
    status: int
    named: Sequence[Owned] = ()


def record_refusal(caller: Caller, asked: Asked) -> None:
    """Record a refusal: a 401, a 403, or an object that belongs to others, for which the answer is
    as for one that does not exist: 404, or 400 where it was named in a field or a filter."""
    hidden = [owned for owned in asked.named if not caller.belongs_with(owned)]
    if asked.status in (400, 404) and not hidden:
        return
    about = next(iter([*hidden, *asked.named]), None)
    own = {about.tenant} & caller.tenants if about else caller.tenants
    # Without an object, a caller with several tenants was refused in none in particular.
    tenant = next(iter(own)) if len(own) == 1 else None
    _record(Action.ACCESS_REFUSED, caller, asked, about, tenant)


def record_staff_read(caller: Caller, asked: Asked) -> None:
    """Record that staff read an object of a tenant that is not theirs, or, without one, a list."""
    foreign = [owned for owned in asked.named if owned.tenant not in caller.tenants]
    if foreign or not asked.named:
        about = foreign[0] if foreign else None
        _record(Action.STAFF_READ, caller, asked, about, about.tenant if about else None)


def _record(
    action: Action, caller: Caller, asked: Asked, about: Owned | None, tenant: UUID | None
) -> None:
    origin = current_origin()
    known = caller.actor != NOBODY
    event = AuditEvent(
        action,
        tenant,
        caller.actor,
        device=about.device if about else None,
        target=_described(about, tenant),
        address=origin.address if known else network_name(origin.address),
        via=origin.via,
        detail={"request": asked.request, "status": asked.status},
    )
    record_coalesced(event, varying=OBJECT)


def _described(about: Owned | None, tenant: UUID | None) -> str:
    if about is None:
        return ""
    if tenant is None:
        return f"{about} of tenant {about.tenant}"
    # A device gets its name from the writer.
    return "" if about.device else str(about)
