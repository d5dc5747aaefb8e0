"""Which status of HTTP an error becomes: one table, for the API and for pages.

The API answers with problem details (RFC 9457, application/problem+json).
"""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from django.db import OperationalError
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from devices.commands.targets import RoleMissing, UnknownTarget
from devices.errors import (
    AlreadyRegistered,
    CommandConflict,
    CommandRefused,
    RegistrationForbidden,
    RegistrationRefused,
    TooManyDevices,
    UpgradeRefused,
)
from natsbridge.errors import DependencyAway
from tenants.errors import CredentialRefused, EnrollmentRefused, LimitRefused, RotationRefused

# The nearest class counts, so a more special error may have a status of its own.
STATUSES: dict[type[Exception], int] = {
    LimitRefused: 400,
    CommandRefused: 400,
    EnrollmentRefused: 401,
    RegistrationRefused: 401,
    RegistrationForbidden: 403,
    RoleMissing: 403,
    TooManyDevices: 403,
    UnknownTarget: 404,
    AlreadyRegistered: 409,
    CommandConflict: 409,
    CredentialRefused: 409,
    RotationRefused: 409,
    UpgradeRefused: 409,
    DependencyAway: 503,
    OperationalError: 503,
}

log = structlog.get_logger(__name__)

AWAY = "The server is temporarily unavailable; try again in a moment."
# An answer must not be larger than a request in which every item is wrong.
MAX_ERRORS = 20
CONTENT_TYPE = "application/problem+json"


def status_of(error: Exception) -> int | None:
    """Return the status that answers this error, None for one that is not in the table."""
    return next((STATUSES[each] for each in type(error).__mro__ if each in STATUSES), None)


def explained(error: Exception) -> tuple[int, str] | None:
    """Return the status that answers this error and what a person reads, None if it has none."""
    status = status_of(error)
    if status is None:
        return None
    if status == 503:
        log.warning("a server is away", error=str(error).strip(), exc_info=error)
        return status, AWAY
    return status, str(error)


def problem_details(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Handle exceptions for REST framework: its status and headers, with our body."""
    if known := explained(exception):
        return _problem(*known)
    answer = exception_handler(exception, context)
    if answer is None:
        return None
    headers = {name: answer[name] for name in ("WWW-Authenticate", "Retry-After") if name in answer}
    if isinstance(exception, ValidationError):
        found = _flatten(exception.detail, "")
        errors = list(islice(found, MAX_ERRORS))
        described = [f"{e['field']}: {e['detail']}" if e["field"] else e["detail"] for e in errors]
        if next(found, None):
            described.append("there are more errors; correct these first")
        detail = "; ".join(described)
        return _problem(answer.status_code, detail, errors=errors, headers=headers)
    return _problem(answer.status_code, str(answer.data.get("detail", "")), headers=headers)


def _problem(
    status: int,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return problem details; `errors` names wrong fields: `{"field": "a.b", "detail": "why"}`."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def _flatten(detail: Any, field: str) -> Iterator[dict[str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            path = "" if name == "non_field_errors" else str(name)
            yield from _flatten(inner, ".".join(part for part in (field, path) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flatten(inner, field)
    else:
        yield {"field": field, "detail": str(detail)}


class NoSuchEndpointView(APIView):
    """Answer for any other address below the API's root, so that a mistyped one gets JSON too."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("No such endpoint; see /api/docs/.")
