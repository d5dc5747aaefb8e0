"""Throttle wrong device tokens, API tokens and enrolment keys, and record them in the audit.

Only failures count, so a valid token is never refused for the failures of others.
"""

import json
import time
from typing import NamedTuple
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as AnyDatabaseError
from knox.settings import CONSTANTS

from tenants.actions.later import Later
from tenants.audit.rules.coalescer import Coalescer
from tenants.audit.writer import Actor, AuditEvent, record_events
from tenants.models import Action, ActorKind, ApiToken, Group
from tenants.origin import current_origin, network_of
from tenants.throttle import failure_counts
from tenants.throttle.failure_counts import Away, Report

log = structlog.get_logger(__name__)

DEVICE_TOKEN, API_TOKEN, ENROLMENT_KEY = "device token", "API token", "enrolment key"


class Principal(NamedTuple):
    """The device, group or token that the caller claims to be, where it exists."""

    identity: str
    target: str = ""
    tenant: str = ""
    device: str = ""


class Failure(NamedTuple):
    """A kind of failure, counted in one audit row. `who` may be an address prefix."""

    kind: str
    route: str
    who: Principal


SURPLUS = Failure("", "", Principal("others"))


def group_named(uuid: UUID) -> Principal | None:
    found = Group.objects.filter(pk=uuid).first()
    if found is None:
        return None
    return Principal(f"group {uuid}", f"group {found.name}", str(found.tenant_id))


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
    prefix = prefix_of(address)
    failure = Failure(kind, route, principal or Principal(prefix))
    throttled = [prefix, *([principal.identity] if principal else ())]
    limit = settings.AUTH_FAILURE_LIMIT
    try:
        counted = failure_counts.count(
            _encoded(failure), address, throttled, limit=limit, surplus=_encoded(SURPLUS)
        )
    except Away:
        log.warning("wrong tokens are not throttled while Redis is away", kind=kind, prefix=prefix)
        _own_count.record(failure, address)
        return 0
    _write(counted.rows)
    if counted.held:
        _later.ask()
    return counted.wait


def flush(now: float | None = None) -> None:
    """Write the audit rows that are due by `now`, whichever process has counted the failures."""
    try:
        counted = failure_counts.due(surplus=_encoded(SURPLUS), now=now)
    except Away:
        _later.ask()
        return
    _write(counted.rows)
    if counted.held:
        _later.ask()


def prefix_of(address: str) -> str:
    """Return the network that this address belongs to, as text."""
    return str(network_of(address) or "unknown")


def _write(rows: list[Report]) -> None:
    try:
        record_events(_event(_decoded(row.kind), row.failures, row.address) for row in rows)
    except AnyDatabaseError:
        failure_counts.put_back(rows)
        raise


class _OwnCount:
    """The failures that this process counts by itself while Redis is away."""

    def __init__(self) -> None:
        self._coalescer: Coalescer[Failure] = Coalescer(others=lambda failure: SURPLUS)
        self._later = Later("refused tokens", self._flush, lambda: failure_counts.WINDOW_SECONDS)

    def record(self, failure: Failure, address: str) -> None:
        if self._coalescer.admit(failure, time.monotonic()):
            record_events([_event(failure, 1, address)])
        else:
            self._later.ask()

    def _flush(self) -> None:
        with self._coalescer.due(time.monotonic(), at_once=True) as counted:
            record_events(_event(failure, count, "") for failure, count in counted)


_own_count = _OwnCount()
_later = Later("refused tokens", flush, lambda: failure_counts.WINDOW_SECONDS)


def _event(failure: Failure, count: int, address: str) -> AuditEvent:
    who = failure.who
    detail = {"kind": failure.kind, "route": failure.route}
    if failure == SURPLUS:
        detail = {"reason": "too many different ones in one minute"}
    return AuditEvent(
        Action.API_REFUSED,
        UUID(who.tenant) if who.tenant else None,
        Actor(ActorKind.UNKNOWN, ""),
        device=UUID(who.device) if who.device else None,
        target=who.target,
        # A row of a prefix is about all its addresses.
        address=address if who.target or who.device else who.identity,
        via="api",
        count=count,
        detail=detail,
    )


def _encoded(failure: Failure) -> str:
    return json.dumps(failure)


def _decoded(text: str) -> Failure:
    kind, route, who = json.loads(text)
    return Failure(kind, route, Principal(*who))
