"""Errors of the API as problem details (RFC 9457, application/problem+json)."""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from django.db import OperationalError
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from devices.errors import CommandConflict, CommandRefused
from natsbridge.errors import DependencyAway
from tenants.errors import CredentialRefused, LimitRefused, RotationRefused

log = structlog.get_logger(__name__)

# An answer is not to be larger than the request whose every item is wrong.
MAX_ERRORS = 20
CONTENT_TYPE = "application/problem+json"


def problem(
    status: int,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """`errors` names each wrong field as `{"field": "a.b", "detail": "why"}`."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def problem_details(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: its own answer's status and headers, our body."""
    if isinstance(exception, DependencyAway | OperationalError):
        log.warning("a server is away", error=str(exception).strip())
        return problem(503, "A server that this needs does not answer; try again in a moment.")
    if isinstance(exception, CredentialRefused | RotationRefused | CommandConflict):
        return problem(409, str(exception))
    if isinstance(exception, LimitRefused | CommandRefused):
        return problem(400, str(exception))
    answer = exception_handler(exception, context)
    if answer is None:
        return None
    headers = {name: answer[name] for name in ("WWW-Authenticate", "Retry-After") if name in answer}
    if isinstance(exception, ValidationError):
        found = _flatten(exception.detail, "")
        errors = list(islice(found, MAX_ERRORS))
        told = [f"{e['field']}: {e['detail']}" if e["field"] else e["detail"] for e in errors]
        if next(found, None):
            told.append("more is wrong; mend these first")
        detail = "; ".join(told)
        return problem(answer.status_code, detail, errors=errors, headers=headers)
    return problem(answer.status_code, str(answer.data.get("detail", "")), headers=headers)


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
