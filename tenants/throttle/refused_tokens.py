"""Throttle wrong device tokens, API tokens and enrolment keys, and record them in the audit.

Only failures count, so a valid token is never refused for the failures of others.
"""

from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from knox.settings import CONSTANTS

from tenants.access.coalesced import NOBODY, record_coalesced
from tenants.audit.writer import AuditEvent
from tenants.models import Action, ApiToken, Group
from tenants.origin import current_origin, network_name

DEVICE_TOKEN, API_TOKEN, ENROLMENT_KEY = "device token", "API token", "enrolment key"


class Principal(NamedTuple):
    """The device, group or token that the caller claims to be, where it exists."""

    identity: str
    target: str
    tenant: UUID | None = None
    device: UUID | None = None


def group_named(uuid: UUID) -> Principal | None:
    found = Group.objects.filter(pk=uuid).first()
    if found is None:
        return None
    return Principal(f"group {uuid}", f"group {found.name}", found.tenant_id)


def token_named(plain: str) -> Principal | None:
    """Return the API token that begins as this one does."""
    beginning = plain[: CONSTANTS.TOKEN_KEY_LENGTH]
    known = ApiToken.objects.filter(token_key=beginning).select_related("user")
    found = None if "\0" in beginning else known.first()
    if found is None:
        return None
    name = f"API token {found.name} of {found.user.get_username()}"
    return Principal(f"token {found.pk}", name)


def record(kind: str, route: str, principal: Principal | None) -> int:
    """Count a failure; return for how many seconds the next one is throttled, 0 for none."""
    address = current_origin().address
    prefix = network_name(address)
    detail = {"kind": kind, "route": route}
    if principal is None:
        # A row of a network is about all its addresses.
        event = AuditEvent(
            Action.API_REFUSED, None, NOBODY, address=prefix, via="api", detail=detail
        )
        return record_coalesced(event, throttled=[prefix], limit=settings.AUTH_FAILURE_LIMIT)
    event = AuditEvent(
        Action.API_REFUSED,
        principal.tenant,
        NOBODY,
        device=principal.device,
        target=principal.target,
        address=address,
        via="api",
        detail=detail,
    )
    return record_coalesced(
        event,
        varying=["address"],
        throttled=[prefix, principal.identity],
        limit=settings.AUTH_FAILURE_LIMIT,
    )
