"""Record the websockets that are refused, which no middleware of requests sees."""

from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as AnyDatabaseError

from tenants.access.records import STRANGER, Asked, person_caller, record_refusal
from tenants.audit.owners import owners_of
from tenants.models import User
from tenants.origin import Origin, acting, caller_address

log = structlog.get_logger(__name__)


def record_refused_websocket(scope: Any, route: str, status: int) -> None:
    """Record that this websocket was refused; `scope` is that of ASGI."""
    person = scope.get("user")
    caller = person_caller(person) if isinstance(person, User) else STRANGER
    kwargs = scope.get("url_route", {}).get("kwargs", {})
    uuids = [each for each in kwargs.values() if isinstance(each, UUID)]
    try:
        with acting(Origin(via="web", address=_address(scope))):
            named = owners_of(uuids) if caller != STRANGER else []
            record_refusal(caller, Asked(f"websocket /{route}", status, named))
    except AnyDatabaseError as error:
        log.warning("a refused websocket is not in the audit", error=str(error).strip())


def _address(scope: Any) -> str:
    header = settings.CLIENT_ADDRESS_HEADER.lower().encode()
    forwarded = [value for name, value in scope["headers"] if header and name == header]
    peer, *_ = scope.get("client") or [""]
    return caller_address(b",".join(forwarded).decode("latin1"), peer)
